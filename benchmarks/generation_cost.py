"""What a generation costs beyond the denoising loops that can't be left out, and how much memory it takes.

In turns, with a new seed each time: once the bare loops (the same three networks, batches, drafts, steps and guidance,
each step a call of the network and of its schedule, nothing else), once `imagine` (which embeds the caption, draws
noise for each picture, chooses the best candidate and draft and looks after cancellation), and once a whole generation
as it is asked for over HTTP (guard rails, row, lease, progress with previews, PNG with provenance, blobs). Prints
medians in seconds and the ratios, which can be compared between machines; and the process's memory before the generator
was loaded, after, and at its peak.

    python -m benchmarks.generation_cost [--generator starter] [--rounds 10] [--images 1]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phosphene.assemble import Engine, open_engine
from phosphene.catalog.generation_records import GenerationState
from phosphene.generation.asked import AskedPart, GenerationRequest
from phosphene.generation.request import request_generation
from phosphene.generation.run import run_generation
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT as TENANT
from phosphene.unclip import starter_layout as layout
from phosphene.unclip.base import Sampling
from phosphene.unclip.diffusion import guide
from phosphene.unclip.imagine import Part, Request, imagine
from phosphene.unclip.loading import STARTER, STARTER_FOLDER

CAPTION = "a red house with a tree"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one generation, each way."""

    bare: float
    imagined: float
    whole: float


class BareLoops:
    """The three denoising loops of the starter's layout, and nothing around them."""

    def __init__(self, folder: Path, sampling: Sampling, images: int) -> None:
        self._networks = layout.StarterNetworks.load(folder, layout.read_config(folder))
        self._schedules = layout.load_schedules(folder)
        self._sampling, self._images = sampling, images

    @torch.inference_mode()
    def __call__(self) -> None:
        """Run them once."""
        networks, sampling, n = self._networks, self._sampling, self._images
        prior, decoder, large = self._schedules
        text = torch.nn.functional.normalize(torch.randn(n * sampling.candidates, networks.dimension), dim=1)
        captions = torch.cat([torch.zeros_like(text), text])
        _walk(
            lambda noisy, t: guide(
                layout.predict_embedding(networks, noisy.repeat(2, 1), t, captions), sampling.prior_guidance
            ),
            torch.randn_like(text),
            prior,
            sampling.prior_steps,
        )
        k, px = networks.decoder_fold, networks.decoder_px
        drafts = torch.nn.functional.normalize(torch.randn(n * sampling.drafts, networks.dimension), dim=1)
        pictures = torch.cat([torch.zeros_like(drafts), drafts])
        small = _walk(
            lambda noisy, t: guide(
                layout.predict_picture(networks, noisy.repeat(2, 1, 1, 1), t, pictures), sampling.decoder_guidance
            ),
            torch.randn(len(drafts), 3 * k * k, px // k, px // k),
            decoder,
            sampling.decoder_steps,
        )
        enlarged = layout.enlarge(layout.unfold(small[:n], k).clamp(-1, 1), networks.super_resolution_px)
        low = layout.fold(enlarged, networks.super_resolution_fold)
        _walk(
            lambda noisy, t: layout.predict_larger(networks, noisy, t, low),
            torch.randn_like(low),
            large,
            sampling.super_resolution_steps,
        )


def _walk(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    sample: torch.Tensor,
    schedule: Any,  # noqa: ANN401  diffusers has no types
    steps: int,
) -> torch.Tensor:
    schedule.set_timesteps(steps)
    for t in schedule.timesteps:
        sample = schedule.step(predict(sample, t), t, sample).prev_sample
    return sample


def measure(engine: Engine, bare: BareLoops, *, rounds: int, images: int) -> list[Timing]:
    """Run each way in turn; the first round warms up and is left out."""
    generator = engine.generator

    def imagined(seed: int) -> None:
        imagine(Request((Part(CAPTION),), images=images, seed=seed), generator=generator)

    def whole(seed: int) -> None:
        asked = GenerationRequest((AskedPart(text=CAPTION),), images=images, seed=seed)
        generation = request_generation(asked, engine=engine, tenant=TENANT, jobs=None)
        run_generation(generation.id, engine=engine)
        ended = engine.catalog.generations.one(TENANT, generation.id)
        if ended.state is not GenerationState.FINISHED:
            raise RuntimeError(f"the generation is {ended.state}: {ended.error}")

    timings = []
    for number in range(rounds + 1):
        seed = 1000 * number
        spent: dict[str, float] = {}
        ways: list[tuple[str, Callable[[], None]]] = [
            ("bare", bare),
            ("imagined", lambda seed=seed: imagined(seed)),  # type: ignore[misc]
            ("whole", lambda seed=seed: whole(seed)),  # type: ignore[misc]
        ]
        for at in range(len(ways)):
            name, call = ways[(at + number) % len(ways)]
            started = time.perf_counter()
            call()
            spent[name] = time.perf_counter() - started
        timings.append(Timing(**spent))
    return timings[1:]


def peak_megabytes() -> float:
    """Give the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default=STARTER, help="the starter, or a folder of its layout")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=1, help="pictures of one generation")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as data:
        settings = load_settings(
            data=Path(data), generator=options.generator, threads=options.threads, generations_per_day=10**6
        )
        with open_engine(settings, command="benchmark") as engine:
            engine.warm()
            before = peak_megabytes()
            card = engine.generator.card
            loaded = peak_megabytes()
            folder = STARTER_FOLDER if options.generator == STARTER else Path(options.generator)
            # Before the bare loops are there, whose networks are a second copy.
            imagine(Request((Part(CAPTION),), images=options.images), generator=engine.generator)
            peak = peak_megabytes()
            timings = measure(
                engine,
                BareLoops(folder, card.sampling, options.images),
                rounds=options.rounds,
                images=options.images,
            )
    bare, imagined, whole = (np.array([getattr(timing, way) for timing in timings]) for way in Timing.__slots__)
    sampling = card.sampling
    steps = f"{sampling.prior_steps} of {sampling.candidates} candidates, "
    steps += f"{sampling.decoder_steps} of {sampling.drafts} drafts, "
    steps += str(sampling.super_resolution_steps)
    print(f"{options.images} of {card.sizes[0]}, {options.threads} threads, {len(timings)} rounds; steps {steps}")
    print(
        f"bare loops {np.median(bare):.2f} s, imagine {np.median(imagined):.2f} s, generation {np.median(whole):.2f} s"
    )
    for name, times in (("imagine", imagined), ("generation", whole)):
        low, middle, high = np.percentile(times / bare, [25, 50, 75])
        print(f"{name} / bare loops: {middle:.2f} (half of the rounds {low:.2f} to {high:.2f})")
    print(f"memory: {before:.0f} MB ready to search, {loaded:.0f} MB with the generator, {peak:.0f} MB at the peak")


if __name__ == "__main__":
    main()
