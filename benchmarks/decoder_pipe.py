"""What it costs to carry decoded pictures over a socket, over shared memory instead, and beside a whole ingest.

A process that decodes nothing answers requests as a decoder does: a JPEG file goes over, pixels and a thumbnail come
back. Once all of it goes through the socket (`phosphene/decoder_wire.py`), once the pixels lie in shared memory, which
each side touches once as it must: the child writes them there, and the parent takes them out, since a batch is made of
them. Both run in turn; then pictures are ingested with each model. What shared memory would spare is told as a share of
the processor time of that ingest, both processes counted: all cores are busy then.

    python -m benchmarks.decoder_pipe [--pictures 256] [--rounds 5] [--models NAME …]
"""

from __future__ import annotations

import argparse
import mmap
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.ingest_rate import Effort, cpu_seconds, random_weights, write_photos
from indexer.pipeline import ingest
from phosphene.assemble import open_engine
from phosphene.decoder_wire import Closed, receive_frame, send_frame
from phosphene.model_files import STARTER
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT

THUMBNAIL_BYTES = 8_000
MOST_BYTES = 1 << 24
REQUESTS = 10_000
HEADER = {"info": {"width": 640, "height": 480, "format": "jpeg"}, "attributes": {"brightness": 0.5}}


def main() -> None:
    """Print what both take, and what that is of an ingest."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pictures", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--models", nargs="+", default=[STARTER, "ViT-B-32"])
    arguments.add_argument("--child", nargs=2, type=int, help=argparse.SUPPRESS)  # bytes of pixels, and a file or 0
    chosen = arguments.parse_args()
    if chosen.child is not None:
        answer_all(*chosen.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        sent = write_photos(pictures, chosen.pictures) // chosen.pictures
        for model in chosen.models:
            named = model if model == STARTER else random_weights(model, Path(folder))
            spent, side = ingest_ms(named, pictures, Path(folder) / f"data-{model}")
            runs = [
                (carried_ms(sent, side, shared=False), carried_ms(sent, side, shared=True))
                for _ in range(chosen.rounds)
            ]
            over_socket, in_memory = (statistics.median(one) for one in zip(*runs, strict=True))
            spared = statistics.median(one - other for one, other in runs)
            print(
                f"{model}, {side} x {side} pixels, files of {sent / 1000:.0f} kB: CPU ms a picture: socket "
                f"{over_socket:.3f}, shared memory {in_memory:.3f}, ingest {spent:.1f}; the socket takes "
                f"{over_socket / spent:.2%} of the ingest, shared memory would spare {spared / spent:.2%}",
                flush=True,
            )


def ingest_ms(model: str, pictures: Path, data: Path) -> tuple[float, int]:
    """Ingest with a warm model; give the processor time in ms a picture, and the side of what the model sees."""
    with open_engine(Settings(data=data, model=model, batch_size=64, _env_file=None), command="benchmark") as engine:
        engine.warm()
        files = len(list(pictures.iterdir()))
        before = cpu_seconds()
        ingest([str(pictures)], engine=engine, tenant=DEFAULT_TENANT)
        return (cpu_seconds() - before) / files * 1000, engine.encoder.space.pixels.size


def carried_ms(sent: int, side: int, *, shared: bool) -> float:
    """Have pictures carried there and back; give the processor time of both processes, ms a picture."""
    length = side * side * 3
    file = os.memfd_create("pixels") if shared else 0
    ours, theirs = socket.socketpair()
    words = [sys.executable, "-m", "benchmarks.decoder_pipe", "--child", str(length), str(file)]
    if shared:
        os.ftruncate(file, length)
    memory = mmap.mmap(file, length) if shared else None
    child = subprocess.Popen(words, stdin=theirs.fileno(), pass_fds=[file] if shared else [])
    theirs.close()
    try:
        picture = os.urandom(sent)
        ask(ours, picture, memory, length)  # it has started
        effort = asked(ours, picture, memory, length)
    finally:
        ours.close()
        child.wait(60)
        if shared:
            os.close(file)
    return effort.cpu_s / REQUESTS * 1000


def asked(channel: socket.socket, picture: bytes, memory: mmap.mmap | None, length: int) -> Effort:
    """Ask many times."""
    cpu, start = cpu_seconds(), time.perf_counter()
    for _ in range(REQUESTS):
        ask(channel, picture, memory, length)
    return Effort(time.perf_counter() - start, cpu_seconds() - cpu)


def ask(
    channel: socket.socket, picture: bytes, memory: mmap.mmap | None, length: int
) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Send a file, and give the pixels."""
    send_frame(channel, HEADER, [picture])
    answer = receive_frame(channel, max_body_bytes=MOST_BYTES)
    if memory is None:
        return np.frombuffer(answer.body, np.uint8, count=length)
    return np.frombuffer(memory, np.uint8, count=length).copy()


def answer_all(length: int, file: int) -> None:
    """Answer as a decoder does that has its pixels already."""
    channel = socket.socket(fileno=os.dup(0))
    pixels, thumbnail = np.frombuffer(os.urandom(length), np.uint8), os.urandom(THUMBNAIL_BYTES)
    memory = mmap.mmap(file, length) if file else None
    while True:
        try:
            receive_frame(channel, max_body_bytes=MOST_BYTES)
        except Closed:
            return
        if memory is None:
            send_frame(channel, HEADER, [pixels.data, thumbnail])
        else:
            np.frombuffer(memory, np.uint8, count=length)[:] = pixels
            send_frame(channel, HEADER, [thumbnail])


if __name__ == "__main__":
    main()
