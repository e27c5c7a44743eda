"""The denoising loop that prior, decoder and super-resolution share, and where their noise comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from phosphene.types import Pixels
from phosphene.unclip.base import Watch, derived_seed
from phosphene.unclip.components import Untyped
from phosphene.unclip.pixels import preview

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (noisy, timestep) -> what the network says


def streams(seeds: Sequence[int], stage: str) -> list[torch.Generator]:
    """Give each picture a source of noise of its own for a stage.

    So a picture does not depend on its neighbours in the batch, nor the decoder's noise on how the embedding was made.
    Noise is drawn on the CPU: the same on every device.
    """
    return [torch.Generator().manual_seed(derived_seed(seed, stage)) for seed in seeds]


def gaussian(noise: Sequence[torch.Generator], shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """Draw (n, *shape) standard normal numbers, one picture from each source; type and device of `like`."""
    rows = [torch.randn((1, *shape), generator=source) for source in noise]
    return torch.cat(rows).to(like)


def guide(both: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance: away from the unconditioned prediction, past the conditioned one.

    both is (2n, …), the unconditioned half first; gives (n, …). Ho and Salimans 2022 (arXiv 2207.12598), written as in
    Saharia et al. 2022 (arXiv 2205.11487), equation 2.
    """
    nothing, conditioned = both.chunk(2)
    return nothing + scale * (conditioned - nothing)


def denoise(
    predict: Predict,
    start: torch.Tensor,
    *,
    schedule: Untyped,
    steps: int,
    noise: Sequence[torch.Generator],
    stage: str,
    watch: Watch,
    draw: Callable[[torch.Tensor], torch.Tensor] | None = None,
    skipped: int = 0,
    told: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Walk from noise to a sample, telling the watch of each step.

    start is (n, …), noised as `schedule` begins, or as it is after the steps `skipped` (see `noised`); told is how many
    steps of the stage were done before, and how many there are in all; draw makes a picture (n, 3, h, w) in -1..1 of
    the clean sample that is foreseen, for previews. Raises Cancelled.
    """
    own = type(schedule).from_config(schedule.config)  # a schedule holds the state of its walk
    own.set_timesteps(steps, device=start.device)
    sample = start
    done, of = told or (0, steps)
    watch.check()
    for at, t in enumerate(own.timesteps[skipped:], start=done + 1):
        walked = own.step(predict(sample, t), t, sample, generator=list(noise))
        sample = walked.prev_sample
        watch.step(stage, at, of, preview=_sketch(walked.pred_original_sample, draw))
    return sample


def noised(clean: torch.Tensor, noise: torch.Tensor, *, schedule: Untyped, steps: int, skipped: int) -> torch.Tensor:
    """Bring clean samples (n, …) back to where `denoise` begins when it skips as many steps.

    Meng et al. 2022 (arXiv 2108.01073), section 3: what is coarser than the noise stays.
    """
    own = type(schedule).from_config(schedule.config)
    own.set_timesteps(steps, device=clean.device)
    back: torch.Tensor = own.add_noise(clean, noise, own.timesteps[skipped].expand(len(clean)))
    return back


def _sketch(clean: torch.Tensor, draw: Callable[[torch.Tensor], torch.Tensor] | None) -> Callable[[int], Pixels] | None:
    return None if draw is None else lambda px: preview(draw(clean), px)
