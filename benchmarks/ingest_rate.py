"""How close ingest comes to its encoder: pictures a second from files to durable points, over those of the bare model.

The bare figure encodes tensors that are decoded already: same model, batch size and threads, same process. The ingest
figure is a whole `ingest()` of a folder of JPEG files into a fresh data folder: reading, decoding, thumbnails, blobs,
rows, embedding, index; the model is loaded and the decoders are started before the clock. Both run in turn, several
times, and medians are printed. ViT-B-32 has random weights: its speed is real, its meaning is not.

    python -m benchmarks.ingest_rate [--pictures 512] [--rounds 5] [--threads N] [--models NAME …]

CPU seconds are told too (children included): on a machine that does other things, trust their ratio.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from indexer.pipeline import ingest
from phosphene.assemble import Engine, open_engine
from phosphene.encoders import batch_size_of
from phosphene.model_files import STARTER
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT, Pixels

SIDES = (640, 480)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Effort:
    """What one run took."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Print the figures of each model."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pictures", type=int, default=512)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=None)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--models", nargs="+", default=[STARTER, "ViT-B-32"])
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        size = write_photos(pictures, chosen.pictures)
        print(
            f"{chosen.pictures} JPEG pictures of {SIDES[0]} x {SIDES[1]}, {size / chosen.pictures / 1000:.0f} kB each; "
            f"batch {chosen.batch}, {os.cpu_count()} cores, threads {chosen.threads or 'as torch likes'}"
        )
        for model in chosen.models:
            settings = Settings(
                data=Path(folder) / "unused",
                model=model if model == STARTER else random_weights(model, Path(folder)),
                threads=chosen.threads,
                batch_size=chosen.batch,
                _env_file=None,
            )
            compare(model, settings, pictures, rounds=chosen.rounds)


def write_photos(folder: Path, number: int) -> int:
    """Write pictures that compress about as photographs do; give their size in bytes."""
    folder.mkdir()
    chance = np.random.default_rng(7)
    total = 0
    for name in range(number):
        picture = np.zeros((SIDES[1], SIDES[0], 3), dtype=np.float32)
        for side, strength in ((4, 120), (24, 50), (120, 25), (480, 8)):
            noise = chance.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
            picture += strength / 255 * np.asarray(Image.fromarray(noise).resize(SIDES, Image.Resampling.BILINEAR))
        buffer = io.BytesIO()
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        total += len(buffer.getvalue())
        (folder / f"{name:05}.jpg").write_bytes(buffer.getvalue())
    return total


def random_weights(architecture: str, folder: Path) -> str:
    """Write random weights for an open_clip architecture; give the name that loads them."""
    import open_clip
    from safetensors.torch import save_file

    path = folder / f"{architecture}.safetensors"
    save_file(open_clip.create_model(architecture, pretrained=None).state_dict(), path)
    return f"{architecture}/{path}"


def compare(name: str, settings: Settings, pictures: Path, *, rounds: int) -> None:
    """Run both in turn and print their medians."""
    files = sorted(pictures.iterdir())
    bare: list[Effort] = []
    whole: list[Effort] = []
    encoder = None
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as data:
            engine = open_engine(settings.model_copy(update={"data": Path(data)}), command="benchmark")
            with engine:
                if encoder is None:
                    encoder = engine.encoder
                    pixels = decoded(engine, files)
                    encoder.encode_pixels(pixels[: batch_size_of(encoder)])
                engine.current._encoder = encoder  # noqa: SLF001  loading it again would only take time
                engine.catalog.record_space(encoder.space)
                decoded(engine, files[:4])
                _ = engine.index
                runs: list[tuple[list[Effort], Callable[[], object]]] = [
                    (bare, partial(in_batches, engine, pixels)),
                    (whole, partial(ingest, [str(pictures)], engine=engine, tenant=DEFAULT_TENANT)),
                ]
                for efforts, run in runs if turn % 2 == 0 else reversed(runs):
                    efforts.append(timed(run))
                if engine.index.count() != len(files):
                    raise SystemExit(f"{engine.index.count()} of {len(files)} pictures were indexed")
    number = len(files)
    bare_rate, rate = (number / statistics.median(one.wall_s for one in efforts) for efforts in (bare, whole))
    bare_cpu, cpu = (statistics.median(one.cpu_s for one in efforts) / number * 1000 for efforts in (bare, whole))
    ratios = sorted(one.wall_s / other.wall_s for one, other in zip(bare, whole, strict=True))
    print(
        f"{name}: bare encoder {bare_rate:.1f}/s, ingest {rate:.1f}/s, "
        f"ratio {statistics.median(ratios):.2f} (of {len(ratios)} pairs: {ratios[0]:.2f} to {ratios[-1]:.2f}); "
        f"CPU ms a picture {bare_cpu:.1f} and {cpu:.1f}, ratio {bare_cpu / cpu:.2f}"
    )


def decoded(engine: Engine, files: list[Path]) -> Pixels:
    """Decode files as ingest does: (n, size, size, 3) uint8."""
    spec = engine.encoder.space.pixels
    waiting = [engine.decoders.decode(path.read_bytes(), spec=spec) for path in files]
    return np.stack([pixels for one in waiting if (pixels := one.result().pixels) is not None])


def in_batches(engine: Engine, pixels: Pixels) -> None:
    """Encode as ingest does."""
    size = engine.current.batch_size
    for start in range(0, len(pixels), size):
        engine.encoder.encode_pixels(pixels[start : start + size]).unit()


def timed(run: Callable[[], object]) -> Effort:
    """Take the time of one run."""
    cpu, start = cpu_seconds(), time.perf_counter()
    run()
    return Effort(wall_s=time.perf_counter() - start, cpu_s=cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """Add up the processor time of this process and of the children that live."""
    mine = time.process_time()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            mine += (int(fields[11]) + int(fields[12])) / _TICKS
    return mine


if __name__ == "__main__":
    main()
