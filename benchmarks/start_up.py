"""How long until the first answer: whole processes, as a user starts them.

Prints seconds for `import torch, open_clip` alone (the floor any OpenCLIP program pays, in the same run), for
`phosphene --help`, for `phosphene search` on a folder that nobody holds, and for `phosphene serve` until ready.
Medians of several runs, and each as a ratio to the floor.

    python -m benchmarks.start_up [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

PORT = 18_431


def seconds(call: Callable[[], None], runs: int) -> float:
    """Median wall-clock seconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


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

        floor = seconds(lambda: run("-c", "import torch, open_clip"), runs)
        print(f"import torch, open_clip: {floor:.2f} s (the floor)")
        for name, call in (
            ("phosphene --help", lambda: run("-m", "phosphene", "--help")),
            ("phosphene search, its own process", lambda: run("-m", "phosphene", "search", "a dog")),
            ("phosphene serve until ready", lambda: serve_until_ready(environment)),
        ):
            took = seconds(call, runs)
            print(f"{name}: {took:.2f} s, {took / floor:.2f} of the floor")


if __name__ == "__main__":
    main()
