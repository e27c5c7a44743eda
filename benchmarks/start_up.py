"""How long until the first answer: whole processes, as a user starts them.

Prints seconds for `import torch, open_clip` alone (the floor any OpenCLIP program pays, in the same run), for
`phosphene --help`, for `phosphene search` on a folder that nobody holds, and for `phosphene serve` until ready (its
processor time goes on to its stop). All run in turn, several times, after one round that is not counted; medians are
printed, and ratios to the floor of the same round. On a machine that does other things trust those of processor time.

    python -m benchmarks.start_up [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PORT = 18_431
FLOOR = "import torch, open_clip"


@dataclass(frozen=True, slots=True)
class Effort:
    """What one process took, its children included."""

    wall_s: float
    cpu_s: float


def effort(call: Callable[[], None]) -> Effort:
    """Measure a call that starts processes and waits for their end."""
    before, started = cpu_of_children(), time.perf_counter()
    call()
    return Effort(time.perf_counter() - started, cpu_of_children() - before)


def cpu_of_children() -> float:
    """Processor seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def serve_until_ready(environment: dict[str, str]) -> None:
    """Start the server, wait for its first 200, stop it."""
    command = [sys.executable, "-m", "phosphene", "serve", "--port", str(PORT)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if server.poll() is not None:
                    raise
                time.sleep(0.02)
        server.send_signal(signal.SIGTERM)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PHOSPHENE_DATA": str(Path(folder) / "data")}

        def run(*command: str) -> None:
            subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)

        ways: dict[str, Callable[[], None]] = {
            FLOOR: lambda: run("-c", "import torch, open_clip"),
            "phosphene --help": lambda: run("-m", "phosphene", "--help"),
            "phosphene search, its own process": lambda: run("-m", "phosphene", "search", "a dog"),
            "phosphene serve until ready": lambda: serve_until_ready(environment),
        }
        for call in ways.values():
            call()
        rounds = [{name: effort(call) for name, call in ways.items()} for _ in range(runs)]
    for name in ways:
        wall, cpu = (statistics.median(getattr(one[name], unit) for one in rounds) for unit in Effort.__slots__)
        print(f"{name}: {wall:.2f} s, {cpu:.2f} s of processor time", end="")
        print(" (the floor)" if name == FLOOR else f"; {_shares(rounds, name)}")


def _shares(rounds: Sequence[Mapping[str, Effort]], name: str) -> str:
    """Tell the ratios to the floor of the same round: the median, and the lowest and highest."""
    told = []
    for unit, of in (("wall_s", "time"), ("cpu_s", "processor time")):
        ratios = sorted(getattr(one[name], unit) / getattr(one[FLOOR], unit) for one in rounds)
        told.append(f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) of the floor's {of}")
    return ", ".join(told)


if __name__ == "__main__":
    main()
