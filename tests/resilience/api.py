"""A running `phosphene serve` that a test may kill, and an upload to it as a client sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.resilience.fleet import ROOT, eventually, process_environment


@dataclass(frozen=True)
class Answer:
    """What came back; a `status` of None is a connection that broke."""

    status: int | None
    detail: str = ""
    retry_after: str | None = None


@dataclass
class Api:
    """The process, and where it writes."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def url(self) -> str:
        eventually("it serves", lambda: "Phosphene is at " in self.output() or self.dead(), output=self.output)
        assert not self.dead(), self.output()
        return self.output().partition("Phosphene is at ")[2].split()[0]

    def dead(self) -> bool:
        return self.process.poll() is not None

    def memory(self, what: str) -> int:
        """Give VmRSS or VmHWM in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))

    def upload(self, data: bytes) -> Answer:
        """Send a picture."""
        boundary = uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
        body = head + data + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        request = urllib.request.Request(f"{self.url()}/v1/assets", data=body, headers=headers)  # noqa: S310  to ourselves
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310  to ourselves
                return Answer(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                detail = str(json.loads(error.read()).get("detail"))
                return Answer(error.code, detail, error.headers.get("Retry-After"))
        except OSError:
            return Answer(None)


@contextmanager
def serving(
    folder: Path, settings: Mapping[str, str], odd: Mapping[str, object] | None = None, *, name: str = "serve"
) -> Iterator[Api]:
    """Serve until the block ends."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "phosphene", "serve", "--port", "0"],
            env=process_environment(settings, odd, notes=folder / "notes.txt"),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield Api(process, log)
    finally:
        process.kill()
        process.wait()
