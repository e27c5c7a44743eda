"""Which prior tells better what the picture of a caption looks like to CLIP, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from phosphene.unclip.base import Generator, Watch, derived_seed
from training.clip.scores import Retrieval, score_retrieval
from training.unclip.autoregressive_prior import AutoregressivePrior
from training.unclip.held_out import HeldOut

CANDIDATES = 2  # embeddings drawn for a caption; the one nearer to it is kept, as in the paper's section 2.2

# Captions, their embeddings (n, d) and a seed for each -> unit image embeddings (n, d).
Predict = Callable[[Sequence[str], Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class PriorFigures:
    """How near predicted image embeddings are to those of the true pictures."""

    prior: str
    cosine: float  # to the true picture, mean
    caption_cosine: float  # to the caption, mean
    retrieval: Retrieval  # of a picture with that caption among all held-out ones
    milliseconds: float  # for a caption, candidates and all, on this machine

    def report(self) -> dict[str, object]:
        """For JSON."""
        return {
            "prior": self.prior,
            "cosine_to_picture": round(self.cosine, 4),
            "cosine_to_caption": round(self.caption_cosine, 4),
            **self.retrieval.report(),
            "milliseconds": round(self.milliseconds, 1),
        }


def compare_priors(held_out: HeldOut, priors: dict[str, Predict]) -> list[PriorFigures]:
    """Measure each prior, and above them the caption's own embedding in place of any."""
    rows = held_out.asked()
    captions, texts = [held_out.captions[row] for row in rows], held_out.texts[rows]
    relevant = torch.tensor([[title == caption for title in held_out.captions] for caption in captions])
    figures = []
    for name, predict in {"none (the caption's embedding)": _captions_themselves, **priors}.items():
        started = time.perf_counter()
        predicted = keep_nearest(predict, captions, texts)
        seconds = time.perf_counter() - started
        figures.append(
            PriorFigures(
                prior=name,
                cosine=float((predicted * held_out.images[rows]).sum(dim=1).mean()),
                caption_cosine=float((predicted * texts).sum(dim=1).mean()),
                retrieval=score_retrieval(predicted @ held_out.images.T, relevant),
                milliseconds=1000 * seconds / len(rows),
            )
        )
    return figures


def keep_nearest(predict: Predict, captions: Sequence[str], texts: Tensor) -> Tensor:
    """Draw CANDIDATES image embeddings for each caption and keep the one nearest to it: (n, d)."""
    drawn = torch.stack(
        [
            predict(captions, texts, [derived_seed(0, "compare", row, candidate) for row in range(len(captions))])
            for candidate in range(CANDIDATES)
        ],
        dim=1,
    )
    best = (drawn @ texts[:, :, None])[..., 0].argmax(dim=1)
    return drawn[torch.arange(len(captions)), best]


def diffusion_priors(generator: Generator, guidance: Sequence[float]) -> dict[str, Predict]:
    """Give the generator's prior at each guidance."""

    def at(scale: float) -> Predict:
        sampling = replace(generator.card.sampling, prior_guidance=scale)

        def predict(captions: Sequence[str], _: Tensor, seeds: Sequence[int]) -> Tensor:
            rows = generator.predict(captions, seeds=seeds, sampling=sampling, negative=None, watch=Watch())
            return functional.normalize(torch.from_numpy(rows), dim=-1)

        return predict

    return {f"diffusion, guidance {scale:g}": at(scale) for scale in guidance}


def autoregressive_priors(prior: AutoregressivePrior, guidance: Sequence[float]) -> dict[str, Predict]:
    """Give the autoregressive prior at each guidance."""

    def at(scale: float) -> Predict:
        def predict(_: Sequence[str], texts: Tensor, seeds: Sequence[int]) -> Tensor:
            return prior.sample(texts, [torch.Generator().manual_seed(seed) for seed in seeds], guidance=scale)

        return predict

    return {f"autoregressive, guidance {scale:g}": at(scale) for scale in guidance}


def print_table(figures: Sequence[PriorFigures]) -> None:
    """Print a line for each prior, for people."""
    print(f"{'prior':34} {'cosine':>7} {'to caption':>10} {'R@1':>6} {'R@10':>6} {'95 %':>13} {'ms':>7}")
    for line in figures:
        low, high = line.retrieval.interval_at_10
        recall = line.retrieval.recall
        print(
            f"{line.prior:34} {line.cosine:7.3f} {line.caption_cosine:10.3f} {recall[1]:6.1f} {recall[10]:6.1f} "
            f"{low:5.1f} - {high:5.1f} {line.milliseconds:7.1f}"
        )


def _captions_themselves(_: Sequence[str], texts: Tensor, __: Sequence[int]) -> Tensor:
    return texts
