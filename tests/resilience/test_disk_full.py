"""A disk that fills up: no picture that was acknowledged is lost, and what is said is one clear line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.verify import verify
from phosphene.assemble import open_engine
from phosphene.blobs import original_key
from phosphene.catalog.records import AssetState
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import Sha256, asset_id, sha256_of
from tests.indexer.conftest import make_model
from tests.resilience.api import serving
from tests.resilience.conftest import Figure

DISK_MB = 512  # the index begins with a quarter of it, and wants another one free
MB = 2**20


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a tmpfs, which only root may."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def noise(number: int) -> bytes:
    """Draw a picture that takes 190 kB."""
    out = BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (250, 250, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def fill(disk: Path, *, leave: int) -> Path:
    """Fill the disk up but for so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(b"\1" * max(0, shutil.disk_usage(disk).free - leave))
    return ballast


def test_uploads_to_a_disk_that_fills_up(tmp_path: Path, figure: Figure) -> None:
    model = make_model(tmp_path / "model", seed=1)
    with small_disk(tmp_path / "disk") as disk:
        chosen = {"data": disk / "data", "model": str(model), "threads": 1, "decode_processes": 1}
        environment = {f"PHOSPHENE_{name.upper()}": str(value) for name, value in chosen.items()}
        acknowledged: list[Sha256] = []
        refused: list[str] = []
        with serving(tmp_path, environment) as api:
            for number in range(3):
                assert api.upload(noise(number)).status == 201
                acknowledged.append(sha256_of(noise(number)))
            ballast = fill(disk, leave=2 * MB)
            for number in range(3, 40):
                answer = api.upload(noise(number))
                if answer.status == 201:
                    acknowledged.append(sha256_of(noise(number)))
                else:
                    assert answer.status == 503, (answer, api.output())
                    refused.append(answer.detail)
            ballast.unlink()
            again = noise(41)
            answer = api.upload(again)
            assert answer.status == 201, (answer, api.output())
            acknowledged.append(sha256_of(again))
            assert "Traceback" not in api.output()
        settings = Settings(_env_file=None, **chosen)  # type: ignore[arg-type]  # values of several types
        with open_engine(settings, command="a test") as engine:
            verify(engine=engine, repair=True)
            assert all(engine.blobs.exists(original_key(sha256)) for sha256 in acknowledged)
            found = engine.catalog.assets(T, [asset_id(T, sha256) for sha256 in acknowledged])
            assert {asset.state for asset in found.values()} == {AssetState.INDEXED}
            lost = len(acknowledged) - len(found)
            assert verify(engine=engine, repair=False).counts == {}
        figure(f"disk full: {len(acknowledged)} acknowledged, lost {lost}; {len(refused)} refused with {set(refused)}")
        assert lost == 0
        assert refused
        assert all("\n" not in line and line for line in refused)
