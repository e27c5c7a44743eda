"""What one machine can embed at most, and what reading pictures costs beside it.

Prints: the starter's load time in a fresh process; pictures and texts a second of the bare encoder, for the starter
and for ViT-B-32 (random weights: its speed is real, its meaning is not); what TextEmbedder adds to a lone query;
pictures a second through decoder processes. Run: python -m benchmarks.encode [--threads N] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from phosphene.decoding import DecoderPool
from phosphene.encoders import Encoder, load_encoder
from phosphene.images import THUMBNAIL_SIDE, Limits, fit, open_picture, thumbnail
from phosphene.text_embedding import TextEmbedder

LIMITS = Limits(max_pixels=50_000_000, max_bytes=64 * 2**20)
LOAD = """
import resource, sys, time
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime
start = used()
import torch
imported = used()
from phosphene.encoders import load_encoder
load_encoder("starter")
loaded = used()
print(*(f"{later - earlier:.2f}" for a, b in ((start, imported), (imported, loaded)) for earlier, later in zip(a, b)))
"""


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=None, help="torch threads; unset: torch's own choice")
    parser.add_argument("--quick", action="store_true", help="few pictures, for a look")
    options = parser.parse_args()
    rounds = 1 if options.quick else 4
    load_time()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("starter", f"ViT-B-32/{vit_b_32(Path(folder))}"):
            encoder_speed(load_encoder(name, threads=options.threads), rounds=rounds)
    decoding_speed(pictures=40 if options.quick else 300)


def load_time() -> None:
    """Load the starter in fresh processes."""
    runs = [
        [float(word) for word in subprocess.check_output([sys.executable, "-c", LOAD], text=True).split()]
        for _ in range(3)
    ]
    wall, cpu, load_wall, load_cpu = (min(column) for column in zip(*runs, strict=True))
    print(f"importing torch: {wall:.2f} s ({cpu:.2f} s of processor time)")
    print(f"loading the starter after that, open_clip's import included: {load_wall:.2f} s ({load_cpu:.2f} s)")


def vit_b_32(folder: Path) -> Path:
    """Write a checkpoint of the real architecture with random weights."""
    import open_clip
    from safetensors.torch import save_file

    path = folder / "random.safetensors"
    save_file(open_clip.create_model("ViT-B-32", load_weights=False).state_dict(), path)
    return path


def best_rate(work: Callable[[], object], count: int, rounds: int) -> tuple[float, float]:
    """Give the best of some rounds: items a second of wall time and of processor time."""
    work()
    rates = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        rates.append((count / (time.perf_counter() - wall), count / (time.process_time() - cpu)))
    return max(rate for rate, _ in rates), max(rate for _, rate in rates)


def encoder_speed(encoder: Encoder, *, rounds: int) -> None:
    """Time the bare encoder on pixels and texts, and a lone query through TextEmbedder."""
    size = encoder.space.pixels.size
    pixels = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8)
    name = encoder.space.model
    wall, cpu = best_rate(lambda: encoder.encode_pixels(pixels), len(pixels), rounds)
    print(f"{name}: {wall:.1f} pictures/s in batches of 64 ({cpu:.1f} for each second of processor time)")
    texts = [f"a photo of {at} red buses in the street" for at in range(64)]
    wall, cpu = best_rate(lambda: encoder.encode_texts(texts), len(texts), rounds)
    print(f"{name}: {wall:.1f} texts/s in batches of 64 ({cpu:.1f} for each second of processor time)")
    bare, through = [], []
    with TextEmbedder(encoder) as embedder:
        for at in range(25 * rounds):
            bare.append(seconds(lambda text: encoder.encode_texts([text]).unit(), f"a bare query {at}"))
            through.append(seconds(embedder.embed, f"a lone query {at}"))
        known = [seconds(embedder.embed, "a lone query 0") for _ in range(100)]
    print(
        f"{name}: a lone text takes {statistics.median(bare) * 1000:.2f} ms at p50, "
        f"{statistics.median(through) * 1000:.2f} ms through TextEmbedder, "
        f"{statistics.median(known) * 1e6:.1f} us when it is known"
    )


def seconds(work: Callable[[str], object], text: str) -> float:
    """Time one call."""
    start = time.perf_counter()
    work(text)
    return time.perf_counter() - start


def decoding_speed(*, pictures: int) -> None:
    """Decode JPEGs of two sizes: plainly in this process, and through decoder processes."""
    spec = load_encoder("starter").space.pixels
    for width, height, share in ((640, 480, 1), (4000, 3000, 10)):
        count = max(pictures // share, 4)
        files = [jpeg(width, height, seed) for seed in range(min(count, 8))]

        def plainly(files: list[bytes] = files, count: int = count) -> None:
            for at in range(count):
                picture, _ = open_picture(files[at % len(files)], LIMITS, shortest_side=THUMBNAIL_SIDE)
                fit(picture, spec)
                thumbnail(picture, THUMBNAIL_SIDE)

        wall, cpu = best_rate(plainly, count, 2)
        print(
            f"{width} x {height}: {wall:.0f} pictures/s decoded in this process ({cpu:.0f} a processor second)", end=""
        )
        for processes in (1, 2):
            with DecoderPool(processes=processes, limits=LIMITS, timeout_s=60, memory_bytes=2 * 2**30) as pool:

                def pooled(files: list[bytes] = files, count: int = count, pool: DecoderPool = pool) -> None:
                    for future in [pool.decode(files[at % len(files)], spec=spec) for at in range(count)]:
                        future.result()

                print(f", {best_rate(pooled, count, 2)[0]:.0f} in {processes} decoder process(es)", end="")
        print()


def jpeg(width: int, height: int, seed: int) -> bytes:
    """Make a smooth picture with some grain, as photographs have."""
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((width, height))
    grain = rng.normal(0, 4, (height, width, 1))
    out = BytesIO()
    Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


if __name__ == "__main__":
    main()
