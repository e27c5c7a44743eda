"""Which of some labels a picture shows, without an example of any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phosphene.encoders import PromptTemplates
from phosphene.labels.calibration import LabelCalibration
from phosphene.labels.labeller import PLAIN, Labeller, softmax
from phosphene.types import Float32


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label of a picture: its cosine, -1..1, and a probability, 0..1, where one can be told."""

    label: str
    score: float
    probability: float | None


def classify(
    picture: Float32, labels: Sequence[str], *, labeller: Labeller, templates: PromptTemplates
) -> list[Labelled]:
    """Tell which one label of several a picture (d,) shows, the likeliest first.

    The protocol of CLIP (Radford et al. 2021, arXiv 2103.00020, section 3.1): a label is the mean of its sentences'
    unit embeddings; a softmax over the cosines times the model's own scale shares out 1. So the probabilities say: if
    it is one of these.
    """
    cosines = labeller.rows(labels, templates) @ picture
    shares = softmax(labeller.scale * np.asarray(cosines, dtype=np.float64)[None])[0]
    return _ranked(labels, cosines, shares.tolist())


def classify_each(
    picture: Float32,
    labels: Sequence[str],
    *,
    labeller: Labeller,
    calibration: LabelCalibration | None,
    templates: PromptTemplates = PLAIN,
) -> list[Labelled]:
    """Tell for each label by itself whether a picture (d,) shows it, the likeliest first.

    Without a calibration there are no probabilities, and cosines give the order.
    """
    rows = labeller.rows(labels, templates)
    evidence = labeller.evidence(picture[None], rows)[0]
    if calibration is None:
        return _ranked(labels, rows @ picture, [None] * len(labels))
    return _ranked(labels, rows @ picture, calibration.probabilities(evidence).tolist())


def _ranked(labels: Sequence[str], cosines: Float32, probabilities: Sequence[float | None]) -> list[Labelled]:
    found = [
        Labelled(label, float(cosine), probability)
        for label, cosine, probability in zip(labels, cosines, probabilities, strict=True)
    ]
    return sorted(found, key=lambda one: (-(one.probability or 0.0), -one.score))
