"""Drawing what was asked for: lease, embeddings, guard rails, pictures, blobs, row. And finding what nobody is at.

A thread renews the lease while the pictures are drawn, and hears there that they are no longer wanted. When its process
dies, the lease ends within half a minute and `sweep_generations` has the generation drawn again. Only who holds the
lease can finish it, so nothing is kept twice.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from phosphene import metrics
from phosphene.assemble import Engine
from phosphene.blobs import GENERATION_INPUTS, generation_key
from phosphene.catalog.generation_records import Generation, GenerationPicture, GenerationState, StepsDone
from phosphene.errors import Cancelled, PhospheneError, Unavailable
from phosphene.generation.asked import GenerationRequest, from_json
from phosphene.generation.provenance import Provenance, encode, xmp_of
from phosphene.generation.request import clear_away, clear_inputs_away
from phosphene.generation.sources import parts_of
from phosphene.images import small_webp
from phosphene.jobs import JobName, Jobs
from phosphene.life import show_life
from phosphene.types import GenerationId, Pixels, Sha256, sha256_of
from phosphene.unclip.base import Generator, Progress, Watch
from phosphene.unclip.imagine import Imagined, Request, imagine

LEASE_S = 30.0
RENEW_EVERY_S = 2.0  # so soon is a cancellation heard of
TELL_EVERY_S = 0.5
MAX_ATTEMPTS = 3
PREVIEW_PX = 96
SWEPT_AT_ONCE = 100
TELL_AGAIN_S = 120.0  # a worker of what waits: its task may be lost

log = logging.getLogger(__name__)


def run_generation(
    id: GenerationId,  # noqa: A002  the field's word for it
    *,
    engine: Engine,
    on_step: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    limit_s: float | None = None,
) -> None:
    """Draw a generation, unless it has ended or somebody is at it: it ends as FINISHED, FAILED or CANCELLED.

    Setting `stop` gives it back, to be drawn another time. `limit_s` is the longest that it may take.

    Raises Unavailable where a store does not answer: it is given back and may be run again, up to three times.
    """
    owner = f"{engine.owner}/{uuid4().hex[:12]}"
    leased = engine.catalog.generations.lease(id, owner=owner, lease_s=LEASE_S, sole=_sole(engine))
    if leased is None:
        return
    run = _Run(leased, engine, owner, on_step, stop or threading.Event(), limit_s)
    if leased.attempts > MAX_ATTEMPTS:
        run.end(f"its worker died {MAX_ATTEMPTS} times")
        return
    run.do()


def _sole(engine: Engine) -> str | None:
    """Begin the names of all who can be at work: one process has an embedded catalogue for itself."""
    return engine.owner if engine.settings.database_url is None else None


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    pictures: list[GenerationPicture]
    files: dict[str, bytes]  # by key
    model: str
    weights_sha256: Sha256


@dataclass(slots=True, eq=False)
class _Run:
    """One attempt at a generation."""

    leased: Generation
    engine: Engine
    owner: str
    on_step: Callable[[Progress], None] | None
    stop: threading.Event
    limit_s: float | None
    began: float = 0.0

    def do(self) -> None:
        self.began = time.monotonic()
        with _Heart(self.engine, self.leased.id, self.owner) as heart:
            try:
                self._keep(self._draw(heart))
            except Cancelled:
                self._stopped(heart)
            except Unavailable as error:
                self._give_back(error)
                raise
            except PhospheneError as error:
                self.end(str(error))
            except Exception as error:  # noqa: BLE001  whatever the generator does, the request ends with a reason
                self._broke(error)
            except KeyboardInterrupt:
                self.end(None, GenerationState.CANCELLED)
                raise
            except BaseException:
                self.engine.catalog.generations.release(self.leased.id, owner=self.owner, counted=False)
                raise

    def _draw(self, heart: _Heart) -> _Drawn:
        engine = self.engine
        request = from_json(self.leased.request, self._uploads())
        generator = engine.generator
        weights = generator.weights_sha256()
        watch = self._watch(heart)
        asked = Request(
            parts=parts_of(request, engine=engine, tenant=self.leased.tenant, clip=generator.card.clip),
            edit=request.edit,
            images=request.images,
            seed=self.leased.seed,
            size=request.size,
            sampling=request.sampling.of(generator.card.sampling),
            negative=request.negative,
        )
        with _turn(engine, watch):
            made = imagine(
                asked,
                generator=generator,
                watch=watch,
                approve=lambda rows: engine.guard.check_embeddings(rows, generator=generator),
            )
        return self._written(request, made, model_name(engine, generator), weights)

    def _uploads(self) -> dict[int, bytes]:
        prefix = f"{GENERATION_INPUTS}/{self.leased.id}"
        return {int(key.rpartition("/")[2]): self.engine.blobs.get(key) for key in self.engine.blobs.keys(prefix)}

    def _watch(self, heart: _Heart) -> Watch:
        def tell(progress: Progress) -> None:
            heart.hear(progress)
            show_life()
            if self.on_step is not None:
                self.on_step(progress)

        def unwanted() -> bool:
            return heart.unwanted or self.stop.is_set() or self._too_long()

        return Watch(on_step=tell, cancelled=unwanted, preview_px=PREVIEW_PX)

    def _too_long(self) -> bool:
        return self.limit_s is not None and time.monotonic() - self.began > self.limit_s

    def _written(self, request: GenerationRequest, made: Imagined, model: str, weights: Sha256) -> _Drawn:
        """Encode the pictures, each with what it was made from."""
        drawn = _Drawn([], {}, model, weights)
        shown = not request.withhold_prompt
        for place, (pixels, seed) in enumerate(zip(made.pixels, made.seeds, strict=True)):
            xmp = xmp_of(
                Provenance(
                    generation=self.leased.id,
                    model=model,
                    weights_sha256=weights,
                    seed=seed,
                    prompt=request.whole_prompt if shown else None,
                    negative=request.negative if shown else None,
                    parents=request.parents,
                )
            )
            data = encode(pixels, format=request.format, xmp=xmp)
            sha256 = sha256_of(data)
            height, width, _ = pixels.shape
            drawn.files[generation_key(self.leased.id, sha256, request.format)] = data
            drawn.pictures.append(GenerationPicture(place, seed, sha256, width, height, request.format))
        return drawn

    def _keep(self, drawn: _Drawn) -> None:
        """Put files in place, then say so in the row; if it is no longer ours to say, take them away again."""
        catalog, id_ = self.engine.catalog, self.leased.id
        self.engine.blobs.put_many(drawn.files)
        finished = catalog.generations.finish(
            id_, owner=self.owner, model=drawn.model, weights_sha256=drawn.weights_sha256, pictures=drawn.pictures
        )
        if not finished:
            self.end(None, GenerationState.CANCELLED)
            return
        metrics.GENERATIONS_ENDED.labels(GenerationState.FINISHED.value).inc()
        seconds = time.monotonic() - self.began
        log.info("generation %s: %d pictures in %.1f s", id_, len(drawn.pictures), seconds)
        self._clear_away()

    def _stopped(self, heart: _Heart) -> None:
        """End as whoever stopped it meant."""
        if heart.cut_off:
            raise Unavailable("the catalogue did not answer for as long as the lease of a generation lasts")
        if self.stop.is_set() and not heart.unwanted:
            self.engine.catalog.generations.release(self.leased.id, owner=self.owner, counted=False)
        elif self._too_long() and not heart.unwanted:
            self.end(f"it took longer than {self.limit_s:.0f} s: ask for fewer images or steps")
        else:
            self.end(None, GenerationState.CANCELLED)

    def _give_back(self, error: Unavailable) -> None:
        """Have it tried again, but not for ever."""
        if self.leased.attempts >= MAX_ATTEMPTS:
            self.end(str(error))
        else:
            self.engine.catalog.generations.release(self.leased.id, owner=self.owner)

    def _broke(self, error: Exception) -> None:
        """End with an error that is none of ours. Its message may hold the prompt: logs get only where it was."""
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("generation %s failed with %s at\n%s", self.leased.id, type(error).__name__, where)
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        withheld = bool(self.leased.request.get("withhold_prompt"))
        self.end(f"the generator failed: {type(error).__name__}" + ("" if withheld or not said else f": {said[:500]}"))

    def end(self, error: str | None, state: GenerationState = GenerationState.FAILED) -> None:
        """End without pictures, where it is ours to end, and leave nothing behind."""
        if self.engine.catalog.generations.fail(self.leased.id, owner=self.owner, error=error, state=state):
            metrics.GENERATIONS_ENDED.labels(state.value).inc()
            log.info("generation %s %s", self.leased.id, state)
        self._clear_away()

    def _clear_away(self) -> None:
        try:
            clear_away([self.leased.id], self.engine)
        except PhospheneError as error:  # the row is right; the sweep and `verify` find what is left
            log.warning("what generation %s leaves can't be cleared away now: %s", self.leased.id, error)


@contextmanager
def _turn(engine: Engine, watch: Watch) -> Iterator[None]:
    """Wait for the generator, which draws one thing after the other. Raises Cancelled."""
    while not engine.generating.acquire(timeout=TELL_EVERY_S):
        watch.check()
    try:
        watch.check()
        yield
    finally:
        engine.generating.release()


def model_name(engine: Engine, generator: Generator) -> str:
    """Name what draws, without the folder that it lies in on this machine."""
    chosen = engine.settings.generator
    named = Path(chosen).name if Path(chosen).expanduser().is_dir() else chosen
    return named or generator.card.layout


class _Heart:
    """Renews the lease from a thread of its own, tells how far the drawing is, and hears that it is unwanted."""

    def __init__(self, engine: Engine, id_: GenerationId, owner: str) -> None:
        self._engine, self._id, self._owner = engine, id_, owner
        self._done = threading.Event()
        self._latest: Progress | None = None
        self._told: Progress | None = None
        self._beat_at = time.monotonic()
        self.unwanted = False  # cancelled, or ours no longer
        self.cut_off = False  # the catalogue has not answered for so long that the lease is over
        self._thread = threading.Thread(target=self._run, name="generation-lease", daemon=True)

    def hear(self, progress: Progress) -> None:
        """Take a step that was done; the latest is told with the next beat."""
        self._latest = progress

    def _run(self) -> None:
        while not self._done.wait(TELL_EVERY_S) and not self.unwanted:
            new = self._latest is not self._told
            if new or time.monotonic() - self._beat_at >= RENEW_EVERY_S:
                self._beat()

    def _beat(self) -> None:
        latest = self._latest
        steps = None if latest is None else StepsDone(latest.stage, latest.step, latest.of)
        try:
            held = self._engine.catalog.generations.renew(
                self._id, owner=self._owner, lease_s=LEASE_S, progress=steps, preview=_preview(latest)
            )
        except Exception as error:  # noqa: BLE001  the drawing ends only when the lease has
            log.warning("the lease of generation %s could not be renewed: %s", self._id, type(error).__name__)
            self.cut_off = time.monotonic() - self._beat_at > LEASE_S
            self.unwanted = self.cut_off
        else:
            self._beat_at, self._told = time.monotonic(), latest
            self.unwanted = not held

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()


def _preview(progress: Progress | None) -> bytes | None:
    if progress is None or progress.preview is None or not len(progress.preview):
        return None
    first: Pixels = progress.preview[0]
    return small_webp(first, side=PREVIEW_PX)


def sweep_generations(*, engine: Engine, jobs: Jobs | None = None, stop: threading.Event | None = None) -> int:
    """Have drawn what nobody is at: by workers that `jobs` reach, or here, one after the other. Gives how many.

    Also removes uploads that no generation needs any more.
    """
    idle_s = 0.0 if jobs is None else TELL_AGAIN_S
    ids = engine.catalog.generations.lost(SWEPT_AT_ONCE, idle_s=idle_s, sole=_sole(engine))
    done = 0
    for id_ in ids:
        if stop is not None and stop.is_set():
            break
        if jobs is None:
            run_generation(id_, engine=engine, stop=stop)
        else:
            jobs.send(JobName.GENERATE, {"generation_id": str(id_)})
        done += 1
    clear_inputs_away(engine)
    return done
