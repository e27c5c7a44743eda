"""Labels and sentences of one space, embedded once and remembered; and what a picture's cosines with them say."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from phosphene.encoders import Encoder, PromptTemplates
from phosphene.errors import InvalidInput
from phosphene.labels.vocabulary import bundled
from phosphene.nomatch.evidence import Float64
from phosphene.types import Float32

PLAIN = PromptTemplates(("{}",))
MAX_SENTENCES = 10_000  # of a vocabulary: labels times templates
_REMEMBERED = 50_000  # labels; 100 MB of them at 512 numbers
_AT_ONCE = 256  # labels embedded in one call
_LEAST_STD = 1e-6


class Labeller:
    """Names of labels as unit embeddings of one space. Thread-safe."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[tuple[str, ...], str], Float32] = OrderedDict()

    @property
    def scale(self) -> float:
        """What cosines are multiplied by before a softmax, as the model was trained."""
        return self._encoder.logit_scale

    def rows(self, labels: Sequence[str], templates: PromptTemplates = PLAIN, *, most: int = MAX_SENTENCES) -> Float32:
        """Embed labels by the mean over their sentences: (n, d) of length 1.

        Raises InvalidInput where more than `most` sentences would have to be embedded; those remembered are free.
        """
        keys = [(templates.templates, label) for label in labels]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if len(missing) * len(templates.templates) > most:
            raise InvalidInput(
                f"{len(missing):,} labels in {len(templates.templates)} sentences each are more than "
                f"{most:,} texts to embed: send fewer labels at once, or fewer templates"
            )
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            embedded = templates.embed([label for _, label in part], encoder=self._encoder).rows
            found |= dict(zip(part, embedded, strict=True))
        with self._lock:
            for key in keys:
                self._known[key] = found[key]
                self._known.move_to_end(key)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return np.stack([found[key] for key in keys])

    def evidence(self, pictures: Float32, labels: Float32) -> Float64:
        """Say how pictures (n, d) and labels (k, d) go together: (n, k, 2).

        The cosine, and by how many standard deviations it stands above the picture's cosines with the subjects of the
        bundled vocabulary: some pictures are near to every word.
        """
        usual = np.asarray(pictures @ self.rows(bundled().subjects).T, dtype=np.float64)
        spread = np.maximum(usual.std(axis=1, keepdims=True), _LEAST_STD)
        cosines = np.asarray(pictures @ labels.T, dtype=np.float64)
        return np.stack([cosines, (cosines - usual.mean(axis=1, keepdims=True)) / spread], axis=-1)


def softmax(logits: Float64) -> Float64:
    """Turn each row of (n, k) into shares of 1."""
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True), dtype=np.float64)
