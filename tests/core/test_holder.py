from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from phosphene.errors import DataFolderInUse, Unavailable
from phosphene.holder import HeldFolder, current_holder

HOLD = """
import sys, time
from pathlib import Path
from phosphene.holder import HeldFolder
held = HeldFolder.take(Path(sys.argv[1]), command="phosphene serve")
held.announce("http://127.0.0.1:8000")
print("held", flush=True)
time.sleep(600)
"""


def test_the_second_process_is_told_who_holds_the_folder_and_what_to_do(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        holder = current_holder(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.url) == (other.pid, "http://127.0.0.1:8000")
        with pytest.raises(DataFolderInUse) as caught:
            HeldFolder.take(tmp_path, command="phosphene ingest")
        assert f"`phosphene serve` (pid {other.pid})" in str(caught.value)
        assert "--server http://127.0.0.1:8000" in str(caught.value)
        other.send_signal(signal.SIGKILL)
        other.wait()
    # The lock died with its process: nothing has to be cleaned up by hand.
    held = HeldFolder.take(tmp_path, command="phosphene ingest")
    held.release()
    assert current_holder(tmp_path) is None


def test_only_the_owner_can_read_the_token(tmp_path: Path) -> None:
    held = HeldFolder.take(tmp_path, command="phosphene serve")
    held.announce("http://127.0.0.1:8000")
    token = held.token
    file = tmp_path / "holder.json"
    assert token in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    held.release()
    assert token not in file.read_text()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert current_holder(folder) is None
        with pytest.raises(Unavailable, match=r"can't be used: .*; set PHOSPHENE_DATA to another folder"):
            HeldFolder.take(folder, command="phosphene ingest")
