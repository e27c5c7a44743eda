"""The guard rails of generation: what is not drawn, by words, by meaning, and by a hook of the deployment's own.

Meaning is told by a zero-shot score: the share that blocked concepts get in a softmax over their and everyday concepts'
similarity to a prompt, or to the image embedding that a picture is about to be drawn from. Similarities are counted in
standard deviations above the everyday ones, so that one threshold serves prompts and pictures, and any CLIP space.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import Blocked
from phosphene.generation.concepts import Concepts
from phosphene.hooks import load_hook
from phosphene.types import Float32, UnitEmbeddings
from phosphene.unclip.base import Generator, TextEncoder

log = logging.getLogger(__name__)

BLOCKED_SCORE = 0.4  # docs/guard.md: how it was chosen
SHARPNESS = 1.5  # of the softmax over standard deviations
_HASH_DIGITS = 12
_LEAST_STD = 1e-6

Moderation = Callable[[tuple[str, ...]], str | None]
Integers = NDArray[np.int64]


class Texts(Protocol):
    """Embeds one text, and remembers it; `phosphene.text_embedding.TextEmbedder` is one."""

    def embed(self, text: str) -> UnitEmbeddings:
        """Embed one text: (1, d)."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How near something is to what is blocked, 0..1, and which concept is the nearest."""

    concept: str
    score: float


def prompt_hash(text: str) -> str:
    """Name a prompt in logs, which never hold the text: 12 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]


def load_moderation(name: str) -> Moderation:
    """Import a hook by "module:function". Raises InvalidSettings."""
    return load_hook(name, setting="PHOSPHENE_MODERATION")


@dataclass(frozen=True, eq=False)
class ConceptRows:
    """Embeddings of the concepts in one CLIP space, rows of length 1.

    All that is shipped counts together, since kinds of harm lie near one another. What a deployment adds counts each by
    itself, so that a long list does not make the rest more likely to be refused.
    """

    names: tuple[str, ...]  # of each blocked row
    blocked: Float32  # (k, d)
    groups: Integers  # (k,): rows of one number count together
    everyday: Float32  # (n, d)

    def extended(self, own: Mapping[str, Float32], *, shipped: bool) -> ConceptRows:
        """Add concepts, each counting by itself, or take them in place of those there are."""
        added = {name: row for name, row in own.items() if not shipped or name not in self.names}
        if not added:
            return self
        first = int(self.groups.max()) + 1
        more = ConceptRows(tuple(added), np.stack(list(added.values())), first + np.arange(len(added)), self.everyday)
        if not shipped:
            return more
        return ConceptRows(
            names=self.names + more.names,
            blocked=np.concatenate([self.blocked, more.blocked]),
            groups=np.concatenate([self.groups, more.groups]),
            everyday=self.everyday,
        )

    def judge(self, rows: Float32) -> list[Judged]:
        """For each row (m, d), of any length: how much of the softmax goes to what is blocked."""
        usual = np.asarray(rows @ self.everyday.T, dtype=np.float64)
        mean = usual.mean(axis=1, keepdims=True)
        std = np.maximum(usual.std(axis=1, keepdims=True), _LEAST_STD)
        near, far = SHARPNESS * (rows @ self.blocked.T - mean) / std, SHARPNESS * (usual - mean) / std
        top = np.maximum(near.max(axis=1), far.max(axis=1))[:, None]
        weights, others = np.exp(near - top), np.exp(far - top).sum(axis=1)
        of_groups = np.stack([weights[:, self.groups == group].sum(axis=1) for group in np.unique(self.groups)])
        worst = self.groups == of_groups.argmax(axis=0)[:, None]  # (m, k): rows of the group that decides
        nearest = np.where(worst, weights, -1).argmax(axis=1)
        heaviest = of_groups.max(axis=0)
        shares = heaviest / (heaviest + others)
        return [Judged(self.names[int(at)], float(share)) for at, share in zip(nearest, shares, strict=True)]


class Guard:
    """Refuses what shall not be drawn. Thread-safe.

    Prompts are embedded by `texts`, which may know them from a search; the concepts by `encoder`, in one go, the first
    time that something is checked. Raises InvalidSettings for a hook or a file of concepts that can't be read.
    """

    def __init__(
        self,
        texts: Texts,
        *,
        encoder: TextEncoder,
        blocked_concepts: Sequence[str] = (),
        blocked_score: float = BLOCKED_SCORE,
        moderation: str | None = None,
    ) -> None:
        self._texts = texts
        self._encoder = encoder
        self.concepts = Concepts.shipped().extended(blocked_concepts)
        self._score = blocked_score
        self._moderation = load_moderation(moderation) if moderation is not None else None
        self._lock = threading.Lock()
        self._own: ConceptRows | None = None
        self._of_generators: dict[str, ConceptRows] = {}  # by model

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise Blocked if any of a request's captions is refused; logs name it by its hash."""
        for prompt in prompts:
            found = self.concepts.in_words(prompt)
            if found is not None:
                log.warning("prompt %s refused for its words", prompt_hash(prompt))
                raise Blocked(f"the guard rails refuse this prompt for its words ({found}): ask for something else")
        for prompt, judged in zip(prompts, self.judge_prompts(prompts), strict=True):
            self._require_below(judged, f"prompt {prompt_hash(prompt)}")
        if self._moderation is not None and prompts:
            self._moderate(self._moderation, tuple(prompts))

    def check_embeddings(self, rows: Float32, *, generator: Generator) -> None:
        """Raise Blocked if a picture drawn from one of these image embeddings (n, d), of any length, is refused."""
        for judged in self.judge_embeddings(rows, generator=generator):
            self._require_below(judged, "a picture that was about to be drawn")

    def judge_prompts(self, prompts: Sequence[str]) -> list[Judged]:
        """Score prompts against the concepts by meaning."""
        if not prompts:
            return []
        return self._of_texts().judge(np.concatenate([self._texts.embed(prompt).rows for prompt in prompts]))

    def judge_embeddings(self, rows: Float32, *, generator: Generator) -> list[Judged]:
        """Score image embeddings (n, d), of any length, against the concepts in the generator's CLIP space."""
        return self._of_pictures(generator).judge(rows)

    def judge_pictures(
        self, rows: Float32, *, own: Mapping[str, Float32] | None = None, shipped: bool = True
    ) -> list[Judged]:
        """Score image embeddings (n, d) of the guard's own space, of any length, against the concepts.

        `own`: more concepts, (d,) of length 1 each by its name, each counting by itself; `shipped` False: only these.
        """
        return self._of_texts().extended(own or {}, shipped=shipped).judge(rows)

    def _require_below(self, judged: Judged, what: str) -> None:
        if judged.score < self._score or self._score >= 1:
            return
        log.warning("%s refused: %s, score %.2f, from %.2f on", what, judged.concept, judged.score, self._score)
        raise Blocked(
            f"the guard rails refuse this request: it is too near to what is not drawn here ({judged.concept}; "
            f"score {judged.score:.2f}, refused from {self._score:.2f} on)"
        )

    def _moderate(self, hook: Moderation, prompts: tuple[str, ...]) -> None:
        hashes = ", ".join(map(prompt_hash, prompts))
        try:
            reason: object = hook(prompts)
        except Exception as error:  # noqa: BLE001  # told to the caller, and logged
            # Not the message, which may hold a prompt.
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{frames[-1].filename}:{frames[-1].lineno}"
            log.error("the moderation hook raised %s at %s; refused: %s", type(error).__name__, where, hashes)  # noqa: TRY400
            raise Blocked(
                "the moderation of this deployment failed, so the request is refused: try again later"
            ) from None
        if reason is None:
            return
        if not isinstance(reason, str):
            log.error(
                "the moderation hook gave %s, neither a reason nor None; refused: %s", type(reason).__name__, hashes
            )
            raise Blocked("the moderation of this deployment failed, so the request is refused: try again later")
        log.warning("refused by the moderation hook: %s", hashes)
        raise Blocked(f"the moderation of this deployment refuses this request: {reason.strip() or 'no reason given'}")

    def _of_texts(self) -> ConceptRows:
        with self._lock:
            if self._own is None:
                self._own = self._embedded(lambda texts: self._encoder.encode_texts(texts).rows)
            return self._own

    def _of_pictures(self, generator: Generator) -> ConceptRows:
        with self._lock:
            rows = self._of_generators.get(generator.card.model)
            if rows is None:
                rows = self._of_generators[generator.card.model] = self._embedded(generator.embed_texts)
            return rows

    def _embedded(self, embed: Callable[[Sequence[str]], Float32]) -> ConceptRows:
        concepts = self.concepts
        named = [(name, text) for name, texts in concepts.blocked.items() for text in texts]
        rows = _unit(embed([*(text for _, text in named), *concepts.everyday]))
        added = {name: 1 + at for at, name in enumerate(concepts.added)}
        return ConceptRows(
            names=tuple(name for name, _ in named),
            blocked=rows[: len(named)],
            groups=np.array([added.get(name, 0) for name, _ in named]),
            everyday=rows[len(named) :],
        )


def _unit(rows: Float32) -> Float32:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
