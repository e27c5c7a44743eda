"""The words that pictures carry, embedded with the text tower and remembered."""

from __future__ import annotations

import io
import json
import logging
import threading
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np

from phosphene.blobs import BlobStore
from phosphene.encoders import Encoder
from phosphene.errors import NotFound, Unavailable
from phosphene.types import Float32, SpaceId

log = logging.getLogger(__name__)

FIELDS = ("title", "keywords", "tags", "labels", "subjects", "caption", "description")  # what speaks of the content
MOST_WORDS = 8  # of one picture: the title and what is said first
_MOST_LETTERS = 200
_REMEMBERED = 20_000
_BATCH = 64


def words_of(said: Mapping[str, object]) -> tuple[str, ...]:
    """Give a picture's words from its payload, or from its metadata with the title: each once, at most MOST_WORDS."""
    found: dict[str, None] = {}
    for field in FIELDS:
        value = said.get(field)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and (word := plain(text)):
                found.setdefault(word)
    return tuple(found)[:MOST_WORDS]


def plain(text: str) -> str:
    """Collapse white space and fold case, so that equal words are equal."""
    return " ".join(text.casefold().split())[:_MOST_LETTERS]


class WordEmbeddings:
    """Embeddings of words, (d,) float32 of length 1 each. Thread-safe.

    What is not remembered is embedded in one call, so that a question whose hits were never seen costs one small batch
    more. `save` and `load` carry what is remembered over to the next process: derived, and safe to lose.
    """

    def __init__(self, encoder: Encoder, *, remembered: int = _REMEMBERED) -> None:
        self._encoder = encoder
        self._most = remembered
        self._lock = threading.Lock()
        self._known: dict[str, Float32] = {}  # in the order they came

    def rows(self, words: Sequence[str]) -> Float32:
        """Embed words: (n, d)."""
        with self._lock:
            have = {word: self._known[word] for word in words if word in self._known}
        missing = [word for word in dict.fromkeys(words) if word not in have]
        for at in range(0, len(missing), _BATCH):  # small batches, so that searches meanwhile get their turn
            some = missing[at : at + _BATCH]
            fresh = dict(zip(some, self._encoder.encode_texts(some).unit().rows, strict=True))
            self._remember(fresh)
            have |= fresh
        rows = [have[word] for word in words]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self._encoder.space.dimension)

    def save(self, blobs: BlobStore) -> None:
        """Keep what is remembered."""
        with self._lock:
            known = dict(self._known)
        if not known:
            return
        listed = np.frombuffer(json.dumps(list(known), ensure_ascii=False).encode(), dtype=np.uint8)
        out = io.BytesIO()
        np.savez(out, words=listed, rows=np.stack(list(known.values())).astype(np.float16))
        blobs.put(words_key(self._encoder.space.id), out.getvalue())

    def load(self, blobs: BlobStore) -> None:
        """Remember what was kept for this space, if anything was and can be read: it is only a saving."""
        try:
            self._remember(_read(blobs.get(words_key(self._encoder.space.id))))
        except NotFound:
            return
        except (Unavailable, ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            log.warning("embeddings of words are made anew, those kept cannot be read: %s", error)

    def _remember(self, fresh: Mapping[str, Float32]) -> None:
        with self._lock:
            self._known.update(fresh)
            for oldest in list(islice(self._known, max(len(self._known) - self._most, 0))):
                del self._known[oldest]


def nearest_words(vector: Float32, words: Iterable[Sequence[str]], embeddings: WordEmbeddings) -> list[float]:
    """For each picture's words the best cosine with a question's vector (d,); NaN where it carries none."""
    listed = [list(some) for some in words]
    cosines = embeddings.rows([word for some in listed for word in some]) @ vector
    best, at = [], 0
    for some in listed:
        best.append(float(cosines[at : at + len(some)].max()) if some else float("nan"))
        at += len(some)
    return best


def _read(kept: bytes) -> dict[str, Float32]:
    """Read what `save` wrote. Raises what numpy, zipfile and json raise on other bytes."""
    with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
        rows = arrays["rows"].astype(np.float32)
        words = json.loads(arrays["words"].tobytes())
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return dict(zip(words, rows, strict=True))


def words_key(space: SpaceId) -> str:
    """Name the blob that has the words of a space."""
    return f"words/{space}.npz"
