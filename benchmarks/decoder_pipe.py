"""What it costs to carry decoded pictures through shared memory, over the socket instead, and beside a whole ingest.

The real pool of decoders carries them both ways: a JPEG file goes over, pixels, thumbnail and attributes come back.
Only the decoding is left out (`benchmarks/_ready_decoder.py`), and the memory is taken away for the second way, as
where no memory can be shared. Both run in turn; then pictures are ingested with each model. What shared memory spares
is told as a share of the processor time of that ingest, both processes counted: all cores are busy then.

    python -m benchmarks.decoder_pipe [--pictures 256] [--rounds 5] [--models NAME …]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from benchmarks.ingest_rate import cpu_seconds, random_weights, write_photos
from indexer.pipeline import ingest
from phosphene.assemble import open_engine
from phosphene.decoder_memory import NO_FILE
from phosphene.decoding import DecoderPool
from phosphene.images import Limits
from phosphene.model_files import STARTER
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT, PixelSpec

REQUESTS = 5_000
LIMITS = Limits(max_pixels=10**8, max_bytes=10**8)


def main() -> None:
    """Print what both take, and what that is of an ingest."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pictures", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--models", nargs="+", default=[STARTER, "ViT-B-32"])
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        sent = write_photos(pictures, chosen.pictures) // chosen.pictures
        picture = next(pictures.iterdir()).read_bytes()
        for model in chosen.models:
            named = model if model == STARTER else random_weights(model, Path(folder))
            spent, spec = ingest_ms(named, pictures, Path(folder) / f"data-{model}")
            runs = [
                (carried_ms(picture, spec, shared=True), carried_ms(picture, spec, shared=False))
                for _ in range(chosen.rounds)
            ]
            in_memory, over_socket = (statistics.median(one) for one in zip(*runs, strict=True))
            spared = sorted(other - one for one, other in runs)
            print(
                f"{model}, {spec.size} x {spec.size} pixels, files of {sent / 1000:.0f} kB: CPU ms a picture: shared "
                f"memory {in_memory:.3f}, socket {over_socket:.3f}, ingest {spent:.1f}; carrying takes "
                f"{in_memory / spent:.2%} of the ingest, shared memory spares {statistics.median(spared) / spent:.2%} "
                f"({spared[0] / spent:.2%} to {spared[-1] / spent:.2%})",
                flush=True,
            )


def ingest_ms(model: str, pictures: Path, data: Path) -> tuple[float, PixelSpec]:
    """Ingest with a warm model; give the processor time in ms a picture, and what the model sees."""
    with open_engine(Settings(data=data, model=model, batch_size=64, _env_file=None), command="benchmark") as engine:
        engine.warm()
        files = len(list(pictures.iterdir()))
        before = cpu_seconds()
        ingest([str(pictures)], engine=engine, tenant=DEFAULT_TENANT)
        return (cpu_seconds() - before) / files * 1000, engine.encoder.space.pixels


def carried_ms(picture: bytes, spec: PixelSpec, *, shared: bool) -> float:
    """Have a picture carried there and back; give the processor time of both processes, ms a picture."""
    with ExitStack() as changed:
        changed.enter_context(patch("phosphene.decoding._CHILD", "benchmarks._ready_decoder"))
        if not shared:
            changed.enter_context(patch("phosphene.decoder_memory.share", lambda: (None, NO_FILE)))
        pool = DecoderPool(processes=1, limits=LIMITS, timeout_s=60, memory_bytes=2 * 2**30)
        changed.enter_context(pool)
        pool.decode(picture, spec=spec).result()  # it has started
        before = cpu_seconds()
        for _ in range(REQUESTS):
            pool.decode(picture, spec=spec).result()
        return (cpu_seconds() - before) / REQUESTS * 1000


if __name__ == "__main__":
    main()
