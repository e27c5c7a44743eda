"""Generations are kept once for each request, within budgets, and ended once by whoever holds the lease."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Table, update

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.generation_records import (
    Generation,
    GenerationPicture,
    GenerationState,
    NewGeneration,
    Parent,
    StepsDone,
)
from phosphene.catalog.models import GenerationRow
from phosphene.catalog.records import Outcome
from phosphene.errors import Forbidden, InvalidQuery, NotFound, Overloaded
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, GenerationId, Sha256, TenantId
from tests.catalog.samples import SPACE, id_of, new

OTHERS = TenantId("others")
DAY_S = 24 * 3600
WEIGHTS = Sha256("a" * 64)
PICTURE = GenerationPicture(0, 7, Sha256("b" * 64), 128, 64, "png")


def request(key: str = "k", *, images: int = 1, **changes: object) -> NewGeneration:
    made = NewGeneration(
        id=GenerationId(uuid4()),
        key=key,
        generator="starter",
        request={"parts": [{"text": "a red bus", "weight": 1.0}]},
        withheld=None,
        prompt="a red bus",
        seed=7,
        images=images,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # values of tests


def add(
    catalog: Catalog, asked: NewGeneration, tenant: TenantId = T, *, per_day: int | None = None, queue: int = 1000
) -> tuple[Generation, bool]:
    return catalog.generations.add(tenant, asked, per_day=per_day, queue=queue)


def added(catalog: Catalog, key: str = "k", **changes: object) -> GenerationId:
    made, is_new = add(catalog, request(key, **changes))  # type: ignore[arg-type]  # values of tests
    assert is_new
    return made.id


def rewrite(catalog: Catalog, id_: GenerationId, **columns: object) -> None:
    """Change a row behind everyone's back, as though time had passed."""
    table = GenerationRow.__table__
    assert isinstance(table, Table)
    with catalog._database.writing() as connection:
        connection.execute(update(table).where(table.c.id == id_).values(**columns))


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def lease(catalog: Catalog, id_: GenerationId, owner: str = "me", lease_s: float = 30) -> Generation | None:
    return catalog.generations.lease(id_, owner=owner, lease_s=lease_s)


def finish(catalog: Catalog, id_: GenerationId, owner: str = "me", weights: Sha256 = WEIGHTS) -> bool:
    return catalog.generations.finish(id_, owner=owner, model="starter", weights_sha256=weights, pictures=[PICTURE])


def finished(catalog: Catalog, key: str = "k", *, weights: Sha256 = WEIGHTS, **changes: object) -> GenerationId:
    id_ = added(catalog, key, **changes)
    assert lease(catalog, id_) is not None
    assert finish(catalog, id_, weights=weights)
    return id_


def state(catalog: Catalog, id_: GenerationId) -> GenerationState:
    return catalog.generations.one(T, id_).state


# --- asking


def test_what_is_asked_comes_back_as_it_was(catalog: Catalog) -> None:
    parents = (Parent(AssetId(uuid4()), 0.5), Parent(AssetId(uuid4()), 2.0))
    asked = request(images=3, parents=parents, prompt="NUL \x00 and half \ud800", seed=2**53 - 100)
    made, is_new = add(catalog, asked)
    assert is_new
    assert made == catalog.generations.one(T, asked.id)
    assert (made.state, made.key, made.seed, made.images) == (GenerationState.QUEUED, "k", 2**53 - 100, 3)
    assert made.parents == parents
    assert made.request == asked.request
    assert made.prompt == "NUL \N{REPLACEMENT CHARACTER} and half \\ud800"
    assert (made.pictures, made.progress, made.preview, made.error, made.attempts) == ((), None, None, None, 0)
    assert (made.started_at, made.finished_at, made.cancel_asked) == (None, None, False)


def test_the_same_request_is_kept_once_until_it_failed(catalog: Catalog) -> None:
    first = added(catalog)
    again, is_new = add(catalog, request())
    assert (again.id, is_new) == (first, False)
    assert lease(catalog, first) is not None
    assert add(catalog, request())[0].id == first
    assert finish(catalog, first)
    assert add(catalog, request())[0].id == first
    failed = added(catalog, "other")
    assert catalog.generations.fail(failed, owner=None, error="no")
    assert added(catalog, "other") != failed
    cancelled = added(catalog, "third")
    catalog.generations.cancel(T, cancelled)
    assert added(catalog, "third") != cancelled


def test_another_tenant_has_its_own(catalog: Catalog) -> None:
    mine = added(catalog)
    theirs, is_new = add(catalog, request(), OTHERS)
    assert is_new
    assert theirs.id != mine
    with pytest.raises(NotFound):
        catalog.generations.one(OTHERS, mine)
    with pytest.raises(NotFound):
        catalog.generations.cancel(OTHERS, mine)
    with pytest.raises(NotFound):
        catalog.generations.accept(OTHERS, mine, 0, AssetId(uuid4()))
    assert catalog.generations.latest(OTHERS, before=None, limit=10) == [theirs]


def test_two_who_ask_the_same_at_once_get_the_same(catalog: Catalog) -> None:
    start = threading.Barrier(8)
    got: list[tuple[Generation, bool]] = []

    def ask() -> None:
        start.wait()
        got.append(add(catalog, request(), per_day=1, queue=1))

    run_all([ask] * 8)
    assert len(got) == 8
    assert len({one.id for one, _ in got}) == 1
    assert sum(is_new for _, is_new in got) == 1


def run_all(functions: list[object]) -> None:
    threads = [threading.Thread(target=function) for function in functions]  # type: ignore[arg-type]  # of tests
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_what_other_weights_drew_is_not_the_answer_any_more(catalog: Catalog) -> None:
    old = finished(catalog, "k", weights=Sha256("1" * 64))
    assert add(catalog, request())[0].id == old
    finished(catalog, "something else", weights=Sha256("2" * 64))
    fresh, is_new = add(catalog, request())
    assert is_new
    assert catalog.generations.one(T, old).key is None
    assert state(catalog, old) is GenerationState.FINISHED
    assert lease(catalog, fresh.id) is not None
    assert finish(catalog, fresh.id, weights=Sha256("2" * 64))
    assert add(catalog, request())[0].id == fresh.id


def test_other_generators_do_not_make_it_old(catalog: Catalog) -> None:
    mine = finished(catalog, "k", weights=Sha256("1" * 64))
    finished(catalog, "other", weights=Sha256("2" * 64), generator="karlo")
    assert add(catalog, request())[0].id == mine


def test_a_forgotten_one_is_drawn_anew(catalog: Catalog) -> None:
    old = finished(catalog)
    catalog.generations.forget(old)
    assert added(catalog) != old


# --- budgets


def test_the_budget_counts_pictures_of_a_day_but_no_failed_ones(catalog: Catalog) -> None:
    for key, end in (("a", GenerationState.FAILED), ("b", GenerationState.CANCELLED)):
        assert catalog.generations.fail(added(catalog, key, images=5), owner=None, error="x", state=end)
    old = added(catalog, "old", images=5)
    rewrite(catalog, old, queued_at=ago(DAY_S + 1))
    add(catalog, request("c", images=4), per_day=5)
    add(catalog, request("d", images=1), per_day=5)
    with pytest.raises(Overloaded, match="5 of 5 pictures of the last 24 hours"):
        add(catalog, request("e"), per_day=5)
    assert add(catalog, request("c", images=4), per_day=5)[1] is False  # kept already: costs nothing
    assert add(catalog, request("e"), OTHERS, per_day=5)[1]
    assert add(catalog, request("e"), per_day=None)[1]


def test_the_time_to_come_back_is_true(catalog: Catalog) -> None:
    for key, images, age in (("a", 1, 23 * 3600), ("b", 3, 12 * 3600), ("c", 1, 60)):
        rewrite(catalog, added(catalog, key, images=images), queued_at=ago(age))
    with pytest.raises(Overloaded) as one:
        add(catalog, request("d", images=1), per_day=5)
    assert one.value.retry_after_s == pytest.approx(3600, abs=30)
    assert "try again in 60 min" in str(one.value)
    with pytest.raises(Overloaded) as three:
        add(catalog, request("d", images=3), per_day=5)
    assert three.value.retry_after_s == pytest.approx(12 * 3600, abs=30)
    assert "try again in 12 h" in str(three.value)
    for id_ in [made.id for made in catalog.generations.latest(T, before=None, limit=10) if made.images == 1]:
        made = catalog.generations.one(T, id_)
        rewrite(catalog, id_, queued_at=made.queued_at - timedelta(seconds=one.value.retry_after_s + 1))
    assert add(catalog, request("d", images=1), per_day=5)[1]


def test_more_than_the_budget_ever_has_is_refused_for_good(catalog: Catalog) -> None:
    with pytest.raises(InvalidQuery, match="6 images are more than the 5"):
        add(catalog, request(images=6), per_day=5)
    with pytest.raises(Forbidden, match="PHOSPHENE_GENERATIONS_PER_DAY is 0"):
        add(catalog, request(), per_day=0)


def test_requests_at_once_do_not_exceed_the_budget(catalog: Catalog) -> None:
    start = threading.Barrier(8)
    outcomes: list[bool] = []

    def ask(number: int) -> None:
        start.wait()
        try:
            outcomes.append(add(catalog, request(f"k{number}", images=2), per_day=6)[1])
        except Overloaded:
            outcomes.append(False)

    run_all([lambda number=number: ask(number) for number in range(8)])
    assert sorted(outcomes) == [False] * 5 + [True] * 3
    assert sum(made.images for made in catalog.generations.latest(T, before=None, limit=100)) == 6


def test_the_queue_of_a_tenant_is_bounded(catalog: Catalog) -> None:
    first, second = added(catalog, "a"), added(catalog, "b")
    assert lease(catalog, first) is not None
    with pytest.raises(Overloaded, match="2 generations are waiting or under way") as caught:
        add(catalog, request("c"), queue=2)
    assert caught.value.retry_after_s > 0
    assert add(catalog, request("c"), OTHERS, queue=2)[1]
    catalog.generations.cancel(T, second)
    assert add(catalog, request("c"), queue=2)[1]


# --- drawing


def test_from_lease_to_finish(catalog: Catalog) -> None:
    id_ = added(catalog)
    leased = lease(catalog, id_)
    assert leased is not None
    assert (leased.state, leased.attempts) == (GenerationState.RUNNING, 1)
    steps = StepsDone("prior", 3, 25)
    assert catalog.generations.renew(id_, owner="me", lease_s=30, progress=steps, preview=b"\x00webp")
    seen = catalog.generations.one(T, id_)
    assert (seen.progress, seen.preview) == (steps, b"\x00webp")
    assert finish(catalog, id_)
    done = catalog.generations.one(T, id_)
    assert (done.state, done.model, done.weights_sha256) == (GenerationState.FINISHED, "starter", WEIGHTS)
    assert done.pictures == (PICTURE,)
    assert (done.progress, done.preview, done.error) == (None, None, None)
    assert done.queued_at <= (done.started_at or done.queued_at) <= (done.finished_at or done.queued_at)
    assert lease(catalog, id_, "another") is None
    assert catalog.generations.pictures([id_, GenerationId(uuid4())]) == {id_: (PICTURE,)}


def test_a_live_lease_keeps_others_out_and_an_ended_one_lets_them_in(catalog: Catalog) -> None:
    id_ = added(catalog)
    assert lease(catalog, id_, "first") is not None
    assert lease(catalog, id_, "second") is None
    rewrite(catalog, id_, lease_until=ago(1))
    taken = lease(catalog, id_, "second")
    assert taken is not None
    assert taken.attempts == 2
    # The first was not dead after all: nothing that it brings is taken.
    assert not catalog.generations.renew(id_, owner="first", lease_s=30, progress=None, preview=None)
    assert not finish(catalog, id_, "first")
    assert not catalog.generations.fail(id_, owner="first", error="x")
    catalog.generations.release(id_, owner="first")
    assert state(catalog, id_) is GenerationState.RUNNING
    assert finish(catalog, id_, "second")
    assert not finish(catalog, id_, "second")


def test_a_late_owner_may_finish_what_nobody_took(catalog: Catalog) -> None:
    id_ = added(catalog)
    assert lease(catalog, id_) is not None
    rewrite(catalog, id_, lease_until=ago(60))
    assert catalog.generations.renew(id_, owner="me", lease_s=30, progress=None, preview=None)
    assert lease(catalog, id_, "second") is None
    assert finish(catalog, id_)


def test_many_who_lease_at_once_are_one(catalog: Catalog) -> None:
    id_ = added(catalog)
    start = threading.Barrier(6)
    got: list[Generation | None] = []

    def take(number: int) -> None:
        start.wait()
        got.append(lease(catalog, id_, f"worker {number}"))

    run_all([lambda number=number: take(number) for number in range(6)])
    assert len([one for one in got if one is not None]) == 1
    assert catalog.generations.one(T, id_).attempts == 1


def test_where_one_process_has_the_catalogue_leases_of_the_dead_are_void(catalog: Catalog) -> None:
    id_ = added(catalog)
    assert catalog.generations.lease(id_, owner="host/1/old%_/x", lease_s=3600, sole="host/1/old%_") is not None
    assert catalog.generations.lease(id_, owner="host/1/old%_/y", lease_s=3600, sole="host/1/old%_") is None
    assert catalog.generations.lost(10, idle_s=0, sole="host/1/old%_") == []
    assert catalog.generations.lost(10, idle_s=0, sole="host/2/new") == [id_]
    taken = catalog.generations.lease(id_, owner="host/2/new/z", lease_s=3600, sole="host/2/new")
    assert taken is not None
    assert taken.attempts == 2


def test_given_back_it_waits_again(catalog: Catalog) -> None:
    id_ = added(catalog)
    assert lease(catalog, id_) is not None
    catalog.generations.release(id_, owner="me", counted=False)
    assert (state(catalog, id_), catalog.generations.one(T, id_).attempts) == (GenerationState.QUEUED, 0)
    assert lease(catalog, id_) is not None
    catalog.generations.release(id_, owner="me")
    assert catalog.generations.one(T, id_).attempts == 1


def test_only_its_owner_fails_what_runs(catalog: Catalog) -> None:
    id_ = added(catalog)
    assert lease(catalog, id_) is not None
    assert not catalog.generations.fail(id_, owner=None, error="x")
    assert catalog.generations.fail(id_, owner="me", error="no room \x00 left")
    made = catalog.generations.one(T, id_)
    assert (made.state, made.error) == (GenerationState.FAILED, "no room \N{REPLACEMENT CHARACTER} left")
    assert made.pictures == ()
    assert made.finished_at is not None


def test_who_prepares_it_has_it_first(catalog: Catalog) -> None:
    id_ = added(catalog, preparer="api")
    assert lease(catalog, id_) is None
    assert catalog.generations.lost(10, idle_s=0) == []
    catalog.generations.release(id_, owner="api")
    leased = lease(catalog, id_)
    assert leased is not None
    assert leased.attempts == 1
    dead = added(catalog, "dead", preparer="api")
    rewrite(catalog, dead, lease_until=ago(1), rung_at=ago(200))
    assert catalog.generations.lost(10) == [dead]


# --- cancelling


def test_what_waits_is_cancelled_at_once(catalog: Catalog) -> None:
    id_ = added(catalog)
    made = catalog.generations.cancel(T, id_)
    assert made.state is GenerationState.CANCELLED
    assert made.finished_at is not None
    assert lease(catalog, id_) is None


def test_what_runs_is_asked_to_stop(catalog: Catalog) -> None:
    id_ = added(catalog)
    assert lease(catalog, id_) is not None
    made = catalog.generations.cancel(T, id_)
    assert (made.state, made.cancel_asked) == (GenerationState.RUNNING, True)
    assert not catalog.generations.renew(id_, owner="me", lease_s=30, progress=None, preview=None)
    assert not finish(catalog, id_)
    assert catalog.generations.fail(id_, owner="me", error=None, state=GenerationState.CANCELLED)
    assert state(catalog, id_) is GenerationState.CANCELLED


def test_the_same_request_after_a_cancellation_is_a_new_one(catalog: Catalog) -> None:
    id_ = added(catalog)
    assert lease(catalog, id_) is not None
    catalog.generations.cancel(T, id_)
    assert added(catalog) != id_


@pytest.mark.parametrize("way", ["its worker dies", "it is given back"])
def test_what_was_asked_to_stop_is_not_drawn_by_another(catalog: Catalog, way: str) -> None:
    id_ = added(catalog)
    assert lease(catalog, id_) is not None
    catalog.generations.cancel(T, id_)
    if way == "its worker dies":
        rewrite(catalog, id_, lease_until=ago(1), rung_at=ago(30))
        assert catalog.generations.lost(10) == [id_]
        assert lease(catalog, id_, "another") is None
    else:
        catalog.generations.release(id_, owner="me", counted=False)
    assert state(catalog, id_) is GenerationState.CANCELLED


def test_what_has_ended_stays(catalog: Catalog) -> None:
    id_ = finished(catalog)
    assert catalog.generations.cancel(T, id_).state is GenerationState.FINISHED
    assert not catalog.generations.one(T, id_).cancel_asked


# --- what is lost


def test_the_dead_are_found_at_once_and_the_waiting_after_a_while(catalog: Catalog) -> None:
    waiting, told, running, dead, again = (added(catalog, key) for key in "wtrda")
    rewrite(catalog, waiting, rung_at=ago(61))
    assert lease(catalog, running) is not None
    for id_ in (dead, again):
        assert lease(catalog, id_) is not None
        rewrite(catalog, id_, lease_until=ago(1), rung_at=ago(5))
    rewrite(catalog, again, rung_at=ago(0))  # somebody was told since its lease ended
    assert sorted(catalog.generations.lost(10, idle_s=60)) == sorted([waiting, dead])
    assert catalog.generations.lost(10, idle_s=60) == []
    assert sorted(catalog.generations.lost(10, idle_s=0)) == sorted([waiting, told, dead, again])


def test_the_oldest_are_found_first(catalog: Catalog) -> None:
    ids = [added(catalog, str(number)) for number in range(5)]
    for number, id_ in enumerate(ids):
        rewrite(catalog, id_, queued_at=ago(100 + number))
    assert catalog.generations.lost(2, idle_s=0) == [ids[4], ids[3]]


def test_two_sweeps_do_not_find_the_same(catalog: Catalog) -> None:
    ids = {added(catalog, str(number)) for number in range(20)}
    for id_ in ids:
        rewrite(catalog, id_, rung_at=ago(100))
    start = threading.Barrier(4)
    found: list[GenerationId] = []

    def sweep() -> None:
        start.wait()
        found.extend(catalog.generations.lost(100, idle_s=60))

    run_all([sweep] * 4)
    assert sorted(found) == sorted(ids)


def test_unfinished_ones_are_told(catalog: Catalog) -> None:
    waiting, running, done = added(catalog, "a"), added(catalog, "b"), finished(catalog, "c")
    assert lease(catalog, running) is not None
    assert catalog.generations.unfinished([waiting, running, done, GenerationId(uuid4())]) == {waiting, running}


# --- what is withheld


@pytest.fixture(params=["finished", "failed", "cancelled", "cancelled while it waits"])
def end(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param  # type: ignore[no-any-return]


def test_what_is_withheld_is_for_the_worker_only_and_goes_at_the_end(catalog: Catalog, end: str) -> None:
    secret = {"parts": [{"text": "nobody's business", "weight": 1.0}]}
    id_ = added(catalog, withheld=secret, request={"parts": [{"text": None, "weight": 1.0}]}, prompt=None)
    assert "nobody's business" not in str(catalog.generations.one(T, id_))
    if end == "cancelled while it waits":
        catalog.generations.cancel(T, id_)
    else:
        leased = lease(catalog, id_)
        assert leased is not None
        assert leased.request == secret
        assert "nobody's business" not in str(catalog.generations.latest(T, before=None, limit=1))
        if end == "finished":
            assert finish(catalog, id_)
        else:
            catalog.generations.fail(id_, owner="me", error="x", state=GenerationState(end))
    assert "nobody's business" not in str(whole_row(catalog, id_))


def whole_row(catalog: Catalog, id_: GenerationId) -> object:
    table = GenerationRow.__table__
    with catalog._database.reading() as connection:
        return connection.execute(table.select().where(table.c.id == id_)).one()


def test_given_back_it_keeps_what_is_withheld(catalog: Catalog) -> None:
    secret = {"parts": [{"text": "still needed", "weight": 1.0}]}
    id_ = added(catalog, withheld=secret)
    assert lease(catalog, id_) is not None
    catalog.generations.release(id_, owner="me")
    leased = lease(catalog, id_)
    assert leased is not None
    assert leased.request == secret


# --- looking


def test_pages_list_each_once_the_newest_first(catalog: Catalog) -> None:
    ids = [added(catalog, str(number)) for number in range(7)]
    for id_ in ids[2:5]:
        rewrite(catalog, id_, queued_at=ago(1000))  # of one time
    listed: list[GenerationId] = []
    before = None
    while page := catalog.generations.latest(T, before=before, limit=2):
        listed += [made.id for made in page]
        before = page[-1].id
    assert sorted(listed) == sorted(ids)
    assert listed[:4] == [ids[6], ids[5], ids[1], ids[0]]
    with pytest.raises(NotFound):
        catalog.generations.latest(T, before=GenerationId(uuid4()), limit=2)


# --- accepting


def test_a_picture_is_accepted_as_an_asset(catalog: Catalog) -> None:
    id_ = finished(catalog)
    asset = AssetId(uuid4())
    catalog.generations.accept(T, id_, 0, asset)
    assert catalog.generations.one(T, id_).pictures == (replace(PICTURE, asset_id=asset),)
    for place in (-1, 1):
        with pytest.raises(NotFound):
            catalog.generations.accept(T, id_, place, asset)


def test_assets_tell_that_they_were_generated(catalog: Catalog) -> None:
    found, made = new("found"), replace(new("made"), generated=True)
    catalog.register(None, T, SPACE.id, [found, made])
    assert not catalog.asset(T, id_of("found")).generated
    assert catalog.asset(T, id_of("made")).generated


def test_what_was_found_and_then_accepted_is_generated_for_good(catalog: Catalog) -> None:
    catalog.register(None, T, SPACE.id, [new("made")])
    accepted = replace(new("made", "elsewhere"), generated=True)
    (told,) = catalog.register(None, T, SPACE.id, [accepted])
    assert told.outcome is Outcome.UPDATED
    assert catalog.asset(T, id_of("made")).generated
    (told,) = catalog.register(None, T, SPACE.id, [accepted])
    assert told.outcome is Outcome.UNCHANGED
    catalog.register(None, T, SPACE.id, [new("made", title="again", year=1999)])
    assert catalog.asset(T, id_of("made")).generated
