"""Changing the model without a gap: a new space is built beside the old one, held against gates, and swapped in.

    building -> checking -> ready -> swapped -> finished (the old space is dropped)
                         -> refused             and up to `swapped`, --rollback goes back to ready
    up to ready: --abort -> aborted (the new space is dropped)

Where things stand is in the catalogue (phosphene/catalog/reindexes.py), and `advance` does the next step of it: so any
process may be killed at any time, and the next one goes on. From the start to the end every picture that comes in, goes
or is described anew is so in both spaces: a registration queues it for both in its own transaction, whoever changes
payloads or deletes points asks the catalogue afterwards which spaces are written.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from indexer.embedding import embed_assets, sweep_space, task_size
from indexer.gates import Options, judge
from indexer.holding import holding
from phosphene.assemble import Engine
from phosphene.catalog.records import AssetState, NamedSpace, Reindex, ReindexState
from phosphene.errors import InvalidInput, NotFound, Unavailable
from phosphene.evaluation.golden import look_up
from phosphene.jobs import JobName, Jobs, LocalJobs
from phosphene.life import show_life
from phosphene.model_files import full_name
from phosphene.open_space import OpenSpace

TICK_S = 5.0  # about as often workers are told to look
STEP_LIMIT_S = 300.0  # of one step of a worker, whose task is ended after 900 s; what is done of it stays done
CATCH_UP_S = 60.0  # a swap waits so long for pictures that have just come in
DROP_GRACE_S = 60.0  # for other processes to leave the space that goes
_PAGE = 1024  # pictures that are queued at once for workers
_PAGES_IN_A_STEP = 64  # of pictures that may all be there already
_FEWEST_WAITING = 2048  # of them that wait for workers
_IN_USE_S = 5.0
_LEFT_BEHIND_S = 30.0  # longer than a picture is on its way that is being embedded by whoever registered it

log = logging.getLogger(__name__)


def start_reindex(model: str, options: Options, *, engine: Engine) -> Reindex:
    """Begin to move to another model, or go on with it, under these options. Takes as long as loading the model.

    Raises ModelError, and InvalidInput where that model answers already, or a change to another one is under way.
    """
    if options.golden:
        look_up(
            options.golden,
            tenant=options.tenant,
            named=lambda names: engine.catalog.assets_named(options.tenant, names),
        )
    after = engine.spaces.learn(model)
    reindexes = engine.catalog.reindexes
    active = reindexes.active()
    if active is not None:
        return _go_on(active, after, options, engine)
    current = engine.current
    before = NamedSpace(full_name(current.model), current.space)
    if before.space.id == after.space.id:
        raise InvalidInput(f"{after.model} answers already (space {after.space.id})")
    if not reindexes.embedded(before.space.id) and engine.catalog.count_assets(None, AssetState.INDEXED):
        raise InvalidInput(
            f"no picture is embedded with {before.model}, which PHOSPHENE_MODEL says answers: set it to the model that "
            "the catalogue is embedded with"
        )
    if engine.drawn_in() == before.space.id:
        log.warning(
            "the generator %s draws in the space of %s, and goes on doing so: that model stays in memory for it, also "
            "after --finish; with a PHOSPHENE_GENERATOR of its own CLIP model it would not",
            engine.generator_name,
            before.model,
        )
    return reindexes.start(before, after, options.to_json())


def _go_on(active: Reindex, after: NamedSpace, options: Options, engine: Engine) -> Reindex:
    if not active.state.writes_both:
        raise Unavailable("what the last change of the model left is being cleared away: try again in a minute")
    if active.state is ReindexState.SWAPPED:
        if after.space.id == active.before.space.id:
            raise InvalidInput(f"{after.model} answered before: phosphene reindex --rollback")
        raise InvalidInput(
            f"{active.before.model} is still kept for a rollback: phosphene reindex --finish drops it, then begin anew"
        )
    if after.space.id != active.after.space.id:
        raise InvalidInput(f"a change to {active.after.model} is under way: end it with phosphene reindex --abort")
    engine.catalog.reindexes.renew_options(active.id, options.to_json())
    return require_active(engine)


def require_active(engine: Engine) -> Reindex:
    """Give the change under way. Raises NotFound."""
    active = engine.catalog.reindexes.active()
    if active is None:
        raise NotFound("no change of the model is under way: phosphene reindex --model NAME starts one")
    return active


def swap(*, engine: Engine) -> None:
    """Let the new model answer as soon as it may: `advance` does it. Raises InvalidInput, NotFound."""
    engine.catalog.reindexes.ask_swap(require_active(engine).id)


def roll_back(*, engine: Engine) -> None:
    """Let the model before answer again: here when this returns, in other processes within seconds."""
    engine.catalog.reindexes.roll_back(require_active(engine).id)
    engine.spaces.follow()


def finish(*, engine: Engine) -> None:
    """Give up the model before: `advance` drops its space. Raises InvalidInput, NotFound."""
    engine.catalog.reindexes.finish(require_active(engine).id)


def abort(*, engine: Engine) -> None:
    """Give up the new model: `advance` drops its space. Raises InvalidInput, NotFound."""
    engine.catalog.reindexes.abort(require_active(engine).id)


ACTIONS: dict[str, Callable[..., None]] = {"swap": swap, "rollback": roll_back, "finish": finish, "abort": abort}


def advance(*, engine: Engine, jobs: Jobs | None = None, stop: threading.Event | None = None) -> bool:
    """Do the next step of the change under way, if there is one; tell whether there is more to be done at once.

    With the `jobs` of workers, pictures are queued for these; else they are embedded here. Raises what stores and
    models raise: the change stays where it is, and says so.
    """
    reindexes = engine.catalog.reindexes
    if reindexes.active() is None:
        return False
    owner = f"{engine.owner}/{threading.get_ident()}"
    alone, lease_s = engine.settings.embedded, engine.settings.lease_s
    leased = reindexes.lease(owner=owner, lease_s=0.0 if alone else lease_s)
    if leased is None:
        return False
    enough = _Enough(stop or threading.Event(), limit_s=math.inf if alone else STEP_LIMIT_S)

    def renew() -> None:
        if not reindexes.renew(leased.id, owner=owner, lease_s=lease_s):
            enough.set()

    error: str | None = None
    try:
        with contextlib.nullcontext() if alone else holding(renew, lease_s=lease_s):
            return _Step(engine, None if isinstance(jobs, LocalJobs) else jobs, enough).do(leased)
    except Exception as caught:
        error = str(caught) or type(caught).__name__
        raise
    finally:
        with contextlib.suppress(Unavailable):
            reindexes.release(leased.id, owner=owner, error=error)


class _Enough(threading.Event):
    """Set by itself where the caller says stop, and once the step has taken long enough."""

    def __init__(self, stop: threading.Event, *, limit_s: float) -> None:
        super().__init__()
        self._told, self._until = stop, monotonic() + limit_s

    def is_set(self) -> bool:
        return super().is_set() or self._told.is_set() or monotonic() >= self._until


class _Step:
    """One step: tells whether there is more to be done at once."""

    def __init__(self, engine: Engine, jobs: Jobs | None, stop: threading.Event) -> None:
        self._engine, self._jobs, self._stop = engine, jobs, stop
        self._reindexes = engine.catalog.reindexes

    def do(self, reindex: Reindex) -> bool:
        match reindex.state:
            case ReindexState.BUILDING:
                return self._build(reindex)
            case ReindexState.CHECKING:
                return self._check(reindex)
            case ReindexState.READY if reindex.options["swap"]:
                return self._swap(reindex)
            case ReindexState.FINISHED:
                return self._drop(reindex, reindex.before)
            case ReindexState.ABORTED:
                return self._drop(reindex, reindex.after)
        return self._keep_in_step(reindex)

    def _build(self, reindex: Reindex) -> bool:
        if reindex.pass_ended_at is None:
            if self._jobs is None:
                self._queue_and_embed(reindex)
            else:
                return self._send(reindex, self._jobs)
            return True
        if self._jobs is None:
            sweep_space(self._open(reindex.after), engine=self._engine, stop=self._stop)
        if self._reindexes.unfinished(reindex):
            return False  # others are at it
        missing = self._reindexes.close_pass(reindex)
        if missing:
            log.warning("%d pictures can't be embedded with %s: quarantine says why", missing, reindex.after.model)
        return True

    def _queue_and_embed(self, reindex: Reindex) -> None:
        size = 2 * self._open(reindex.after).batch_size
        if reindex.waiting < 2 * size:
            self._reindexes.queue_page(reindex, limit=size)
        sweep_space(self._open(reindex.after), engine=self._engine, stop=self._stop, most=size)

    def _send(self, reindex: Reindex, jobs: Jobs) -> bool:
        """Keep so many pictures waiting for workers as they do until they are asked again, and some more."""
        pace = reindex.pace()
        room = max(_FEWEST_WAITING, int(3 * TICK_S * pace)) - reindex.waiting
        for _ in range(_PAGES_IN_A_STEP):
            if room <= 0 or self._stop.is_set():
                return False
            ids = self._reindexes.queue_page(reindex, limit=_PAGE)
            size = task_size(self._open(reindex.after))
            for start in range(0, len(ids), size):
                some = [str(id_) for id_ in ids[start : start + size]]
                jobs.send(JobName.EMBED, {"asset_ids": some})
            room -= len(ids)
            if not ids:
                active = self._reindexes.active()
                if active is None or active.state is not ReindexState.BUILDING or active.pass_ended_at is not None:
                    return True  # as after an abort
            show_life()
        return True

    def _check(self, reindex: Reindex) -> bool:
        """Bring the new space into shape, calibrate it as the one before was, hold it against the gates."""
        after = self._open(reindex.after)
        with after.held():
            after.index.optimise()
            self._calibrate(reindex, after)
            if self._stop.is_set():
                return False
            report, passed = judge(reindex, engine=self._engine)
        if self._reindexes.judged(reindex.id, report, passed=passed):
            for gate in report["gates"]:
                told = "passed" if gate["passed"] else "NOT passed"
                log.info("change to %s: %s %s: %s", reindex.after.model, gate["name"], told, gate["detail"])
        return True

    def _calibrate(self, reindex: Reindex, after: OpenSpace) -> None:
        """Learn to tell matches in the new space, for tenants that have calibrated the one before."""
        before, options = self._open(reindex.before), Options.from_json(reindex.options)
        for tenant in self._engine.catalog.reindexes.calibrated_tenants(reindex.before.space.id):
            show_life()
            done = {one.calibration.modality for one in after.judge.standing(tenant) if not one.stale}
            for standing in before.judge.standing(tenant):
                kind, rate = standing.calibration.modality, standing.calibration.false_match_rate
                if kind not in done:  # by whoever was at this before
                    self._engine.calibrate(
                        tenant,
                        false_match_rate=rate,
                        stop=self._stop,
                        space=after,
                        modalities=(kind,),
                        golden=options.golden if tenant == options.tenant else (),
                    )

    def _swap(self, reindex: Reindex) -> bool:
        after = self._open(reindex.after)
        after.warm()
        if self._jobs is None:
            sweep_space(after, engine=self._engine, stop=self._stop)
        patient = (datetime.now(UTC) - reindex.touched_at).total_seconds() < CATCH_UP_S
        if not self._reindexes.swap(reindex.id, whatever_waits=not patient):
            return self._jobs is None
        log.info("the catalogue answers with %s from now on", reindex.after.model)
        self._engine.spaces.follow()
        return False

    def _keep_in_step(self, reindex: Reindex) -> bool:
        """Embed what has come in for the space that does not answer; workers do so as they are told of it.

        What began in one space, and was overtaken by the swap, waits for the other with nobody at it.
        """
        if self._jobs is not None:
            return False
        for named in (reindex.before, reindex.after):
            answers = named is (reindex.after if reindex.state is ReindexState.SWAPPED else reindex.before)
            age_s = _LEFT_BEHIND_S if answers else 0.0
            while left := self._reindexes.left_behind(named.space.id, older_than_s=age_s, limit=_PAGE):
                if self._stop.is_set() or not embed_assets(left, engine=self._engine, spaces=[self._open(named)]):
                    break
        return False

    def _drop(self, reindex: Reindex, gone: NamedSpace) -> bool:
        """Clear a space away, once nobody here is at it and others have had time to leave it."""
        self._engine.spaces.follow()
        if self._others_need(gone, since=reindex.ended_at or reindex.touched_at):
            return False
        if not self._engine.spaces.let_go(gone.space.id, wait_s=_IN_USE_S):
            return False
        if self._engine.settings.embedded:  # whoever held it may have registered pictures that now nobody else embeds
            sweep_space(self._engine.current, engine=self._engine, stop=self._stop)
        self._engine.drop_vectors(gone.space)
        while self._reindexes.forget_part(gone.space.id):
            show_life()
            if self._stop.is_set():
                return False
        self._reindexes.dropped(reindex.id)
        log.info("the space %s of %s is dropped", gone.space.id, gone.model)
        return False

    def _others_need(self, gone: NamedSpace, *, since: datetime) -> bool:
        """Tell whether another process has the space open; one that does not leave it is not waited for without end."""
        late = (datetime.now(UTC) - since).total_seconds() >= DROP_GRACE_S
        holding_on = self._engine.presence.others_with(gone.space.id)
        if late and holding_on:
            names = ", ".join(one.name for one in holding_on)
            log.warning("the space %s is dropped, though it is still open in %s", gone.space.id, names)
        return bool(holding_on) and not late

    def _open(self, named: NamedSpace) -> OpenSpace:
        return self._engine.spaces.open(named)
