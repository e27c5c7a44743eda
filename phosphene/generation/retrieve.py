"""The prior as a retriever: what a text would look like, as an embedding to search among the pictures with.

A text and the pictures that show it lie apart in a CLIP space, and nearness to a text is not nearness to what it looks
like. The prior of unCLIP (Ramesh et al. 2022, arXiv 2204.06125, section 2.2) goes from one to the other. Nothing is
decoded: the embedding is enough. How it is mixed with the text's own was chosen on pictures held out for that; see
docs/match.md.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from phosphene.errors import Overloaded, SpaceMismatch
from phosphene.types import Float32, Space, UnitEmbeddings
from phosphene.unclip.base import Generator, Watch, derived_seed
from phosphene.unclip.geometry import direction, slerp

# Chosen on 364 captions of held-out pictures that are not in the demo; docs/match.md has the figures.
CANDIDATES = 4  # embeddings that the prior draws for a text; their mean is searched with
STEPS = 10  # of the prior at most: 25 found no more
TOWARDS_PRIOR = 0.3  # of the way from the text's own embedding to the predicted one
_REMEMBERED = 10_000  # texts; 256 numbers take 1 kB
_WAIT_S = 2.0  # for a generator that is drawing; a picture can take it a minute


class Predictor:
    """Predicts image embeddings of texts in the space of the catalogue, and remembers them. Thread-safe."""

    def __init__(
        self,
        generator: Callable[[], Generator],
        *,
        drawing: threading.Lock,
        space: Space,
        remembered: int = _REMEMBERED,
    ) -> None:
        """Take the generator when it is first needed; `drawing` is held by whoever uses it."""
        self._generator = generator
        self._drawing = drawing
        self._space = space
        self._most = remembered
        self._lock = threading.Lock()
        self._known: OrderedDict[str, UnitEmbeddings] = OrderedDict()

    def predict(self, text: str) -> UnitEmbeddings:
        """Predict the embedding of a picture that shows a text: (1, d). The same text gives the same.

        Raises ModelError (no generator), SpaceMismatch (the generator's CLIP space is not the catalogue's), and
        Overloaded while the generator is drawing.
        """
        with self._lock:
            known = self._known.get(text)
            if known is not None:
                self._known.move_to_end(text)
                return known
        predicted = self._predicted(text)
        predicted.rows.flags.writeable = False
        with self._lock:
            self._known[text] = predicted
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return predicted

    def _predicted(self, text: str) -> UnitEmbeddings:
        generator = self._generator()
        card = generator.card
        try:
            card.clip.require(self._space)
        except SpaceMismatch as error:
            raise SpaceMismatch(f"prior_search can't be used here: {error}") from error
        if not self._drawing.acquire(timeout=_WAIT_S):
            raise Overloaded("the generator is drawing a picture: ask again in a while", retry_after_s=10.0)
        try:
            rows = generator.predict(
                [text] * CANDIDATES,
                seeds=[derived_seed(0, "retrieve", candidate) for candidate in range(CANDIDATES)],
                sampling=replace(card.sampling, prior_steps=min(card.sampling.prior_steps, STEPS)),
                negative=None,
                watch=Watch(),
            )
        finally:
            self._drawing.release()
        return UnitEmbeddings(self._space, mean_direction(rows)[None])


def towards(text: UnitEmbeddings, predicted: UnitEmbeddings) -> UnitEmbeddings:
    """Mix the embedding of a text with the one predicted for it, both (1, d) of one space: what is searched with."""
    mixed = slerp(direction(text.rows[0]), direction(predicted.rows[0]), TOWARDS_PRIOR)
    return UnitEmbeddings(text.space, np.asarray(mixed, dtype=np.float32)[None])


def mean_direction(rows: Float32) -> Float32:
    """Give the direction of the mean of the directions of rows (n, d): (d,) of length 1."""
    mean = np.mean([direction(row) for row in rows], axis=0)
    return np.asarray(direction(mean), dtype=np.float32)
