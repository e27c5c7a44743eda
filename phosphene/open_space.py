"""One space, opened: its encoder, its vectors, and what tells matches in it.

All that answers a question comes from one of these, so that no answer mixes two spaces while the model is changed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from time import monotonic

from phosphene.blobs import BlobStore
from phosphene.catalog.catalog import Catalog
from phosphene.encoders import Encoder, OpenClipEncoder, batch_size_of
from phosphene.errors import ModelError, Unavailable
from phosphene.generation.guard import Guard
from phosphene.generation.retrieve import Predictor
from phosphene.image_tower import FIRST_BATCH
from phosphene.labels.labeller import Labeller
from phosphene.nomatch.decision import Judge
from phosphene.text_embedding import TextEmbedder
from phosphene.types import SYSTEM_FIELDS, Space
from phosphene.vectors.base import VectorIndex


class OpenSpace:
    """The parts of one space, each made on first use. Thread-safe.

    `model` is named as `load_encoder` takes it. `known` is the space that its pictures were embedded in; None: whatever
    the model gives. With it the vectors can be written to without loading the model. `held` keeps the parts open.
    """

    def __init__(
        self,
        model: str,
        *,
        known: Space | None,
        catalog: Catalog,
        blobs: BlobStore,
        load: Callable[[str], Encoder],
        open_index: Callable[[Space], VectorIndex],
        make_guard: Callable[[TextEmbedder, Encoder], Guard],
        make_predictor: Callable[[Space], Predictor],
        batch_size: int | None = None,
    ) -> None:
        self.model = model
        self.sweeping = threading.Lock()  # one at a time embeds what waits, where leases mean nothing
        self._known = known
        self._batch_size = batch_size
        self._catalog, self._blobs = catalog, blobs
        self._load, self._open_index = load, open_index
        self._make_guard, self._make_predictor = make_guard, make_predictor
        self._loading = threading.RLock()  # while the model is loaded; nothing else is locked within
        self._lock = threading.RLock()
        self._free = threading.Condition(threading.Lock())
        self._holders = 0
        self._closed = False
        self._encoder: Encoder | None = None
        self._index: VectorIndex | None = None
        self._texts: TextEmbedder | None = None
        self._judge: Judge | None = None
        self._guard: Guard | None = None
        self._labeller: Labeller | None = None
        self._predictor: Predictor | None = None

    @property
    def space(self) -> Space:
        """Which space it is; loads the model only where nothing else tells."""
        return self._known or self.encoder.space

    @property
    def space_if_known(self) -> Space | None:
        """Which space it is, as far as that can be told without loading anything."""
        encoder = self._encoder
        return self._known if encoder is None else encoder.space

    @property
    def encoder(self) -> Encoder:
        """The model that pictures and texts are embedded with.

        Raises ModelError, also where its weights are not those that the pictures were embedded with.
        """
        with self._loading:
            self._require_open()
            if self._encoder is None:
                encoder = self._load(self.model)
                if self._known is not None and encoder.space.id != self._known.id:
                    raise ModelError(
                        f"the catalogue is embedded with {self.model} as space {self._known.id}, and that model now "
                        f"gives {encoder.space.id}: put its files back as they were, or run "
                        f"`phosphene reindex --model {self.model}`"
                    )
                self._catalog.record_space(encoder.space)
                self._require_open()
                self._encoder = encoder
            return self._encoder

    @property
    def batch_size(self) -> int:
        """How many pictures are embedded at once: as set or, without loading it, as its model is known to take."""
        encoder = self._encoder
        return self._batch_size or (FIRST_BATCH if encoder is None else batch_size_of(encoder))

    def ready_for_pictures(self) -> None:
        """Load the model, and find how many pictures it takes at once where that is left to it."""
        if isinstance(encoder := self.encoder, OpenClipEncoder):
            encoder.find_batch_size()

    @property
    def index(self) -> VectorIndex:
        """The vectors."""
        space = self.space
        with self._lock:
            self._require_open()
            if self._index is None:
                index = self._open_index(space)
                index.declare([*SYSTEM_FIELDS, *self._catalog.all_fields()])
                self._index = index
            return self._index

    @property
    def texts(self) -> TextEmbedder:
        """Texts to embeddings: cached, and batched over concurrent callers."""
        encoder = self.encoder
        with self._lock:
            self._require_open()
            if self._texts is None:
                self._texts = TextEmbedder(encoder)
            return self._texts

    @property
    def judge(self) -> Judge:
        """Tells whether the best hits of a search are a match."""
        encoder = self.encoder
        with self._lock:
            if self._judge is None:
                self._judge = Judge(catalog=self._catalog, index=self.index, encoder=encoder, blobs=self._blobs)
            return self._judge

    @property
    def guard(self) -> Guard:
        """What is not imagined. Raises InvalidSettings for a hook or a list that can't be read."""
        encoder = self.encoder
        with self._lock:
            if self._guard is None:
                self._guard = self._make_guard(self.texts, encoder)
            return self._guard

    @property
    def labeller(self) -> Labeller:
        """Labels to embeddings, remembered."""
        with self._lock:
            if self._labeller is None:
                self._labeller = Labeller(self.encoder)
            return self._labeller

    @property
    def predictor(self) -> Predictor:
        """What a text would look like, to search with."""
        space = self.space
        with self._lock:
            if self._predictor is None:
                self._predictor = self._make_predictor(space)
            return self._predictor

    def warm(self) -> None:
        """Load everything that the first query would otherwise wait for."""
        self.texts.embed("warm up")
        _ = self.index, self.judge

    @contextlib.contextmanager
    def held(self) -> Iterator[OpenSpace]:
        """Keep it open until the block ends."""
        with self._free:
            self._holders += 1
        try:
            yield self
        finally:
            with self._free:
                self._holders -= 1
                self._free.notify_all()

    def wait_until_free(self, timeout_s: float) -> bool:
        """Wait until nobody holds it; tell whether that is so."""
        deadline = monotonic() + timeout_s
        with self._free:
            while self._holders:
                left = deadline - monotonic()
                if left <= 0:
                    return False
                self._free.wait(left)
            return True

    def close_index(self) -> None:
        """Let go of the vectors, and of what reads them; the next use opens them again."""
        with self._lock:
            if self._index is not None:
                self._index.close()
            self._index = self._judge = None

    def close(self) -> None:
        """Let go of everything, for good."""
        with self._lock:
            self._closed = True
            self.close_index()
            if self._texts is not None:
                self._texts.close()
            self._encoder = self._texts = self._guard = self._labeller = self._predictor = None

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the space of {self.model} is closed: try again")
