"""Settings -> Engine: the only place that chooses an implementation."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from phosphene.blobs import BlobStore
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import Serving
from phosphene.decoding import DecoderPool
from phosphene.encoders import Encoder, load_encoder
from phosphene.errors import InvalidSettings, ModelError, ModelNotFound, Overloaded, PhospheneError, SpaceMismatch
from phosphene.evaluation.golden import GoldenQuery, look_up
from phosphene.generation.guard import Guard
from phosphene.generation.retrieve import Predictor
from phosphene.generation.weights import Weights, folders_of
from phosphene.holder import HeldFolder
from phosphene.images import Limits
from phosphene.jobs import CeleryJobs, JobName, Jobs, LocalJobs
from phosphene.labels.vocabulary import Vocabulary, bundled
from phosphene.nomatch.calibrate import Calibrated, calibrate
from phosphene.nomatch.calibration import FALSE_MATCH_RATE
from phosphene.nomatch.decision import Judge
from phosphene.nomatch.words import words_key
from phosphene.open_space import OpenSpace
from phosphene.open_spaces import OpenSpaces
from phosphene.presence import Presence
from phosphene.settings import Settings
from phosphene.text_embedding import TextEmbedder
from phosphene.types import SYSTEM_FIELDS, Field, Modality, Sha256, Space, TenantId, sha256_of
from phosphene.unclip.base import ClipSpace, Generator
from phosphene.unclip.loading import load_generator, starter_space
from phosphene.vectors.base import VectorIndex
from phosphene.vectors.profiles import PROFILES

CATALOGUE = "catalog.sqlite"  # of an embedded data folder
LOCAL_JOBS_CAPACITY = 64
LOCAL_RECOVER_EVERY_S = 20.0
LOCAL_REINDEX_EVERY_S = 1.0
LOCAL_SWEEP_EVERY_S = 30.0


class Engine:
    """All that answering and ingesting needs, made from one Settings.

    Encoder, index and decoders are made on first use, since a command that only reads rows needs none of them and a
    model takes seconds to load. `warm` makes them at once. Thread-safe.
    """

    def __init__(self, settings: Settings, *, catalog: Catalog, blobs: BlobStore, held: HeldFolder | None) -> None:
        self.settings = settings
        self.catalog = catalog
        self.blobs = blobs
        self.held = held
        self.limits = Limits(max_pixels=settings.max_pixels, max_bytes=settings.max_picture_bytes)
        self._lock = threading.RLock()
        self._calibrating = threading.Lock()
        self.spaces = OpenSpaces(catalog.reindexes, settings=settings, make=self._made)
        self._decoders: DecoderPool | None = None
        self._vocabulary: Vocabulary | None = None
        # Drawing takes one picture after the other: whoever uses the generator holds this.
        self.generating = threading.Lock()
        # Names this engine in leases: no two are alike, wherever and whenever they run.
        self.owner = f"{socket.gethostname()[:100]}/{os.getpid()}/{uuid4().hex[:12]}"
        self.presence = Presence(catalog.processes, self.spaces, name=self.owner, alone=held is not None)
        self._generator_lock = threading.RLock()  # a large one loads for a minute: searches go on
        self._generator: Generator | None = None
        self._generator_weights: Sha256 | None = None
        self._weights = Weights()
        self._other_encoders: dict[str, Encoder] = {}

    @property
    def current(self) -> OpenSpace:
        """The space that answers questions."""
        return self.spaces.current

    def answering(self) -> AbstractContextManager[OpenSpace]:
        """Hold the space that answers: all that one question needs comes from it, whatever is swapped meanwhile."""
        return self.spaces.answering()

    def written(self) -> list[OpenSpace]:
        """Give the spaces that writes go to, that which answers first: two while the model is being changed."""
        return self.spaces.written()

    def _made(self, model: str, known: Space | None) -> OpenSpace:
        settings = self.settings
        return OpenSpace(
            model,
            known=known,
            catalog=self.catalog,
            blobs=self.blobs,
            load=self._load,
            batch_size=settings.batch_size,
            open_index=lambda space: _open_index(settings, space),
            make_guard=lambda texts, encoder: Guard(
                texts,
                encoder=encoder,
                blocked_concepts=settings.blocked_concepts,
                blocked_score=settings.blocked_score,
                moderation=settings.moderation,
            ),
            make_predictor=lambda space: Predictor(lambda: self.generator, drawing=self.generating, space=space),
        )

    @property
    def encoder(self) -> Encoder:
        """The model of the space that answers. Raises ModelError."""
        return self.current.encoder

    @property
    def index(self) -> VectorIndex:
        """The vectors of the space that answers."""
        return self.current.index

    @property
    def texts(self) -> TextEmbedder:
        """Texts to embeddings of the space that answers."""
        return self.current.texts

    @property
    def judge(self) -> Judge:
        """Tells whether the best hits of a search are a match, in the space that answers."""
        return self.current.judge

    @property
    def guard(self) -> Guard:
        """What is not imagined. Raises InvalidSettings for a hook or a list that can't be read."""
        return self.current.guard

    @property
    def predictor(self) -> Predictor:
        """What a text would look like in the space that answers."""
        return self.current.predictor

    def discard_index(self, space: OpenSpace | None = None) -> None:
        """Throw away an embedded index that is damaged, so that the next use makes an empty one.

        The catalogue and the blobs have all that is needed to fill it again: `indexer.verify` does. Raises
        InvalidSettings where the index is a server's, which has to be mended there.
        """
        if self.settings.qdrant_url is not None:
            raise InvalidSettings(f"the index at {self.settings.qdrant_url} is not ours to discard: restore it there")
        from phosphene.vectors.edge import EdgeIndex

        damaged = space or self.current
        damaged.close_index()
        EdgeIndex.discard(_index_folder(self.settings, damaged.space))

    def drop_vectors(self, space: Space) -> None:
        """Delete the vectors of a space that is open nowhere here, and what was derived from them."""
        self.blobs.delete(words_key(space.id))
        if self.settings.qdrant_url is None:
            from phosphene.vectors.edge import EdgeIndex

            EdgeIndex.discard(_index_folder(self.settings, space))
        else:
            _open_index(self.settings, space).drop()

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that are said of pictures. Raises InvalidInput for a file that can't be read."""
        with self._lock:
            if self._vocabulary is None:
                own = self.settings.vocabulary
                self._vocabulary = bundled() if own is None else Vocabulary.read(own)
            return self._vocabulary

    @property
    def generator(self) -> Generator:
        """What imagines pictures; hold `generating` while it works. Raises ModelError, SpaceMismatch."""
        _ = self.encoder  # no longer than that takes searches wait
        with self._generator_lock:
            if self._generator is None:
                settings = self.settings
                encoder = self._encoder_to_draw_with()
                weights = self._weights.of(folders_of(settings.generator, settings.generator_prior))
                self._generator = load_generator(
                    settings.generator, prior=settings.generator_prior, encoder=encoder, device=settings.device
                )
                self._generator_weights = weights
            return self._generator

    @property
    def generator_name(self) -> str:
        """Name the generator of the settings, with its prior where that is chosen."""
        settings = self.settings
        return (
            settings.generator
            if settings.generator_prior is None
            else f"{settings.generator} + {settings.generator_prior}"
        )

    def generator_identity(self) -> dict[str, str | None]:
        """Tell what pictures depend on beside the request, without loading anything.

        The generator in use counts, not what lies on the disk meanwhile. Raises ModelNotFound where it is not here,
        unless other processes draw: their weights are told by what they have drawn.
        """
        settings = self.settings
        with self._generator_lock:
            weights = self._generator_weights
        if weights is None:
            try:
                weights = self._weights.of(folders_of(settings.generator, settings.generator_prior))
            except ModelNotFound:
                if settings.broker_url is None:
                    raise
        return {
            "generator": settings.generator,
            "prior": settings.generator_prior,
            "weights": weights,
            "space": self.encoder.space.id,
            "rails": self._rails(),
        }

    def _rails(self) -> Sha256:
        """Hash what the guard rails would refuse: what was drawn under others is judged anew."""
        said = {"score": self.settings.blocked_score, **asdict(self.guard.concepts)}
        return sha256_of(json.dumps(said, sort_keys=True).encode())

    def encoder_for(self, clip: ClipSpace) -> Encoder:
        """Give an encoder of a generator's CLIP space: the engine's own, or else one more, which is kept.

        Raises ModelError, ModelNotFound where that model is not here, SpaceMismatch.
        """
        own = self.encoder
        with contextlib.suppress(SpaceMismatch):
            clip.require(own.space)
            with self._generator_lock:  # it was another one's before the model was changed
                self._other_encoders.clear()
            return own
        beside = self.spaces.opened(clip.space) if clip.space is not None else None
        encoder = self._other_encoder(clip.models[0]) if beside is None else beside.encoder
        clip.require(encoder.space)
        return encoder

    def _load(self, model: str) -> Encoder:
        settings = self.settings
        return load_encoder(
            model,
            device=settings.device,
            threads=settings.threads,
            batch_size=settings.batch_size,
            compiler=settings.compile,
        )

    def _other_encoder(self, model: str) -> Encoder:
        with self._generator_lock:
            if model not in self._other_encoders:
                self._other_encoders[model] = self._load(model)
            return self._other_encoders[model]

    def _encoder_to_draw_with(self) -> Encoder:
        """Give the encoder of the generator's space: after a change of the model it is not the one that answers."""
        wanted = starter_space(self.settings.generator)
        if wanted is not None:
            model, space = wanted
            beside = self.spaces.opened(space)
            if beside is not None:
                return beside.encoder
            with contextlib.suppress(ModelError):  # what is given then is refused, and said why
                return self._other_encoder(model)
        return self.encoder

    def drawn_in(self) -> str | None:
        """Name the space whose encoder the generator needs beside its own parts; None: of none, or it is not here."""
        with contextlib.suppress(PhospheneError):
            wanted = starter_space(self.settings.generator)
            return None if wanted is None else wanted[1]
        return None

    @property
    def decoders(self) -> DecoderPool:
        """Processes that turn bytes into pixels."""
        with self._lock:
            if self._decoders is None:
                settings = self.settings
                self._decoders = DecoderPool(
                    processes=settings.decode_processes,
                    limits=self.limits,
                    timeout_s=settings.decode_timeout_s,
                    memory_bytes=settings.decode_memory_bytes,
                )
            return self._decoders

    def calibrate(
        self,
        tenant: TenantId,
        *,
        false_match_rate: float = FALSE_MATCH_RATE,
        stop: threading.Event | None = None,
        space: OpenSpace | None = None,
        modalities: Collection[Modality] = tuple(Modality),
        golden: Sequence[GoldenQuery] = (),
    ) -> list[Calibrated]:
        """Learn to tell matches in a tenant's catalogue, in the space that answers or in another.

        Raises Overloaded while another calibration is being done, InvalidInput where golden queries name pictures and
        none of these is here.
        """
        judged = look_up(golden, tenant=tenant, named=partial(self.catalog.assets_named, tenant)) if golden else []
        answers = {query.text: tuple(query.gains) for query in judged if query.gains}
        if not self._calibrating.acquire(blocking=False):
            raise Overloaded("another calibration is under way: try again when it is done", retry_after_s=30.0)
        try:
            with (space or self.current).held() as chosen:
                return calibrate(
                    tenant,
                    catalog=self.catalog,
                    index=chosen.index,
                    judge=chosen.judge,
                    blobs=self.blobs,
                    false_match_rate=false_match_rate,
                    stop=stop,
                    modalities=modalities,
                    golden=answers,
                )
        finally:
            self._calibrating.release()

    def warm(self) -> None:
        """Load everything that the first query would otherwise wait for."""
        self.current.warm()
        _ = self.decoders, self.guard

    def fields(self, tenant: TenantId) -> list[Field]:
        """Every field that a tenant's filters may name."""
        return [*SYSTEM_FIELDS, *self.catalog.fields(tenant)]

    def declare_fields(self, tenant: TenantId, fields: Sequence[Field]) -> None:
        """Add metadata fields: to the catalogue, and as payload indexes. Raises InvalidInput where kinds differ."""
        if fields:
            declared = self.catalog.declare_fields(tenant, fields)
            for space in self.written():
                with self.spaces.while_open(space) as there:
                    if there:
                        space.index.declare(declared)

    def close(self) -> None:
        """Let go of everything, stores last."""
        self.presence.hide()
        with self._lock, contextlib.ExitStack() as closing:
            if self.held is not None:
                closing.callback(self.held.release)
            closing.callback(self.catalog.close)
            closing.callback(self.blobs.close)
            closing.callback(self.spaces.close)
            if self._decoders is not None:
                closing.callback(self._decoders.close)
            self._decoders = self._generator = None
            self._other_encoders = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_engine(settings: Settings, *, command: str) -> Engine:
    """Open the stores that the settings name; `command` is told to whoever finds the data folder held.

    Raises DataFolderInUse, Unavailable (a store doesn't answer), InvalidSettings.
    """
    held = HeldFolder.take(settings.data, command=command) if settings.embedded else None
    try:
        blobs = BlobStore.at(settings.blob_url or str(settings.data / "blobs"))
        return Engine(settings, catalog=_open_catalog(settings), blobs=blobs, held=held)
    except BaseException:
        if held is not None:
            held.release()
        raise


def serving_of(settings: Settings) -> Serving | None:
    """Say which space answers as the catalogue has it, without holding the data folder; None where it does not say."""
    if settings.database_url is None and not (settings.data / CATALOGUE).exists():
        return None
    try:
        catalog = _open_catalog(settings, migrate=False)
    except PhospheneError:  # whoever opens it for more says what is wrong
        return None
    try:
        return catalog.reindexes.serving()
    finally:
        catalog.close()


def open_jobs(settings: Settings, handlers: Mapping[JobName, Callable[..., None]]) -> Jobs:
    """Jobs go to Celery where a broker is set, to threads of this process else, which also find what is to be done."""
    if settings.broker_url is not None:
        return CeleryJobs(settings.broker_url.get_secret_value())
    every_s = {
        JobName.RECOVER: LOCAL_RECOVER_EVERY_S,
        JobName.REINDEX: LOCAL_REINDEX_EVERY_S,
        JobName.SWEEP: LOCAL_SWEEP_EVERY_S,
        JobName.CATALOGUE: LOCAL_SWEEP_EVERY_S,
    }
    every_s = {name: seconds for name, seconds in every_s.items() if name in handlers}
    return LocalJobs(handlers, capacity=LOCAL_JOBS_CAPACITY, every_s=every_s)


def _open_catalog(settings: Settings, *, migrate: bool = True) -> Catalog:
    if settings.database_url is not None:
        return Catalog.at(settings.database_url.get_secret_value(), migrate=False)
    return Catalog.at(f"sqlite:///{(settings.data / CATALOGUE).absolute()}", migrate=migrate)


def _open_index(settings: Settings, space: Space) -> VectorIndex:
    if settings.qdrant_url is None:
        from phosphene.vectors.edge import EdgeIndex

        return EdgeIndex.open(_index_folder(settings, space), space, profile=settings.index_profile)
    from phosphene.vectors.server import ServerIndex

    return ServerIndex.open(
        settings.qdrant_url,
        space,
        api_key=settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None,
        grpc_port=settings.qdrant_grpc_port,
        profile=PROFILES[settings.qdrant_profile].with_replicas(settings.qdrant_replicas),
    )


def _index_folder(settings: Settings, space: Space) -> Path:
    return settings.data / "vectors" / space.id
