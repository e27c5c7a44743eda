"""Changes of the model in the catalogue: which space answers, which are written, and how far the building has come."""

from __future__ import annotations

import threading
import time

import pytest

from phosphene.catalog import registering
from phosphene.catalog import reindexes as counting
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import Description, NamedSpace, Reindex, ReindexState
from phosphene.errors import InvalidInput, NotFound, PictureFault
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, SpaceId
from tests.catalog.samples import OTHER_SPACE, SPACE, id_of, new

BEFORE = NamedSpace("starter", SPACE)
AFTER = NamedSpace("/models/other", OTHER_SPACE)


def fill(catalog: Catalog, *names: str) -> None:
    """Put pictures into the space before."""
    catalog.register(None, T, SPACE.id, [new(name) for name in names])
    catalog.mark_indexed(SPACE.id, [(id_of(name), 1.0) for name in names])


def begin(catalog: Catalog) -> Reindex:
    catalog.record_space(OTHER_SPACE)
    return catalog.reindexes.start(BEFORE, AFTER, {"swap": True})


def embed(catalog: Catalog, space: SpaceId, limit: int = 100) -> list[AssetId]:
    """Do what a worker does with all that waits."""
    leased = [item.asset_id for item in catalog.lease_work(space, owner="w", limit=limit, lease_s=60)]
    catalog.mark_indexed(space, [(id_, 1.0) for id_ in leased])
    return leased


def build(catalog: Catalog, *, limit: int = 2) -> Reindex:
    """Bring it to where all is embedded."""
    reindexes = catalog.reindexes
    for _ in range(50):
        active = reindexes.active()
        assert active is not None
        if active.state is not ReindexState.BUILDING:
            return active
        if active.pass_ended_at is None:
            reindexes.queue_page(active, limit=limit)
        else:
            embed(catalog, AFTER.space.id)
            assert not reindexes.unfinished(active)
            reindexes.close_pass(active)
    pytest.fail("it is never built")


def test_before_the_first_change_the_catalogue_says_nothing_of_the_model(catalog: Catalog) -> None:
    assert catalog.reindexes.serving() is None
    assert catalog.reindexes.active() is None
    assert catalog.reindexes.latest() is None
    assert catalog.reindexes.lease(owner="me", lease_s=5) is None


def test_from_the_start_on_a_picture_is_queued_for_both_spaces_and_counted_once(catalog: Catalog) -> None:
    begin(catalog)
    ingest = catalog.start_ingest(T, ["pictures"])
    (registered,) = catalog.register(ingest, T, SPACE.id, [new("cat")])
    assert registered.needs_embedding
    assert catalog.pending_work(SPACE.id) == catalog.pending_work(OTHER_SPACE.id) == 1
    for space in (SPACE.id, OTHER_SPACE.id):
        catalog.fail_work(space, id_of("cat"), PictureFault.EMBEDDING_FAILED, "no", final=True)
    counts = catalog.ingest(T, ingest).counts
    assert (counts.added, counts.quarantined) == (0, 1)


def test_pages_queue_what_the_new_space_lacks_and_a_pass_ends(catalog: Catalog) -> None:
    fill(catalog, "cat", "dog", "owl", "ant")
    reindex = begin(catalog)
    assert (reindex.total, reindex.seen, reindex.done) == (4, 0, 0)
    queued = [catalog.reindexes.queue_page(reindex, limit=3) for _ in range(3)]
    assert [len(page) for page in queued] == [3, 1, 0]
    assert sorted(queued[0] + queued[1]) == sorted(id_of(name) for name in ("cat", "dog", "owl", "ant"))
    active = catalog.reindexes.active()
    assert active is not None
    assert active.pass_ended_at is not None
    assert (active.seen, active.waiting, active.done) == (4, 4, 0)
    assert catalog.reindexes.queue_page(active, limit=3) == []
    catalog.register(None, T, SPACE.id, [new("late")])  # comes in after the pass: nobody waits for it
    assert catalog.reindexes.unfinished(active)
    assert len(embed(catalog, OTHER_SPACE.id, limit=4)) == 4
    assert not catalog.reindexes.unfinished(active)


def test_metrics_count_what_waits_no_further_than_they_must(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "COUNTED_AT_MOST", 3)
    fill(catalog, "cat", "dog", "owl", "ant")
    assert len(catalog.reindexes.queue_page(begin(catalog), limit=4)) == 4
    active = catalog.reindexes.active()
    assert active is not None
    assert (active.waiting, active.done) == (3, 1)


def test_what_is_there_already_is_not_queued_again(catalog: Catalog) -> None:
    fill(catalog, "cat", "dog")
    catalog.record_space(OTHER_SPACE)
    catalog.queue_for(OTHER_SPACE.id, [id_of("cat")])
    embed(catalog, OTHER_SPACE.id)
    reindex = begin(catalog)
    assert catalog.reindexes.queue_page(reindex, limit=10) == [id_of("dog")]


def test_what_can_not_be_embedded_is_tried_once_more_and_then_counted(catalog: Catalog) -> None:
    fill(catalog, "cat", "dog", "owl")
    reindexes = catalog.reindexes
    begin(catalog)
    passes = 0
    while (active := reindexes.active()) is not None and active.state is ReindexState.BUILDING:
        assert passes <= 2
        while reindexes.queue_page(active, limit=10):
            pass
        catalog.lease_work(OTHER_SPACE.id, owner="w", limit=10, lease_s=60)
        catalog.fail_work(OTHER_SPACE.id, id_of("owl"), PictureFault.UNREADABLE, "its original is gone", final=True)
        catalog.mark_indexed(OTHER_SPACE.id, [(id_of("cat"), 1.0), (id_of("dog"), 1.0)])
        passed = reindexes.active()
        assert passed is not None
        reindexes.close_pass(passed)
        passes += 1
    assert passes == 2
    assert active is not None
    assert (active.state, active.missing, active.done) == (ReindexState.CHECKING, 1, 3)


def test_swap_and_rollback_move_the_pointer_and_both_stay_written(catalog: Catalog) -> None:
    fill(catalog, "cat", "dog", "owl")
    begin(catalog)
    built = build(catalog)
    assert built.missing == 0
    with pytest.raises(InvalidInput, match="can't answer now: the change is checking"):
        catalog.reindexes.swap(built.id)
    assert catalog.reindexes.judged(built.id, {"gates": []}, passed=True)

    assert catalog.reindexes.swap(built.id)
    serving = catalog.reindexes.serving()
    assert serving is not None
    assert (serving.answers, serving.written) == (AFTER, (AFTER, BEFORE))
    with pytest.raises(InvalidInput, match="/models/other answers now"):
        catalog.reindexes.abort(built.id)

    catalog.reindexes.roll_back(built.id)
    serving = catalog.reindexes.serving()
    assert serving is not None
    assert (serving.answers, serving.written) == (BEFORE, (BEFORE, AFTER))
    active = catalog.reindexes.active()
    assert active is not None
    assert active.state is ReindexState.READY
    assert not active.options["swap"]
    with pytest.raises(InvalidInput, match="nothing to roll back: the change is ready"):
        catalog.reindexes.roll_back(built.id)
    catalog.reindexes.ask_swap(built.id)
    assert catalog.reindexes.swap(built.id)


def test_no_swap_while_more_pictures_wait_for_the_new_space(catalog: Catalog) -> None:
    fill(catalog, "cat")
    begin(catalog)
    built = build(catalog)
    catalog.reindexes.judged(built.id, {}, passed=True)
    catalog.register(None, T, SPACE.id, [new("dog")])
    catalog.mark_indexed(SPACE.id, [(id_of("dog"), 1.0)])
    assert not catalog.reindexes.swap(built.id)
    embed(catalog, OTHER_SPACE.id)
    catalog.register(None, T, SPACE.id, [new("owl")])  # waits for both
    assert catalog.reindexes.swap(built.id)


def test_the_end_leaves_one_space_and_no_rows_of_the_other(catalog: Catalog) -> None:
    fill(catalog, "cat", "dog", "owl")
    begin(catalog)
    built = build(catalog)
    catalog.reindexes.judged(built.id, {}, passed=True)
    with pytest.raises(InvalidInput, match="starter still answers"):
        catalog.reindexes.finish(built.id)
    catalog.reindexes.swap(built.id)
    catalog.register(None, T, OTHER_SPACE.id, [new("late")])
    catalog.reindexes.finish(built.id)
    assert catalog.reindexes.forget_part(SPACE.id) == 3
    assert catalog.reindexes.forget_part(SPACE.id) == 0
    catalog.reindexes.dropped(built.id)
    assert catalog.pending_work(SPACE.id) == 0
    assert catalog.reindexes.embedded(SPACE.id) == 0
    assert catalog.reindexes.embedded(OTHER_SPACE.id) == 3
    serving = catalog.reindexes.serving()
    assert serving is not None
    assert serving.written == (AFTER,)
    latest = catalog.reindexes.latest()
    assert latest is not None
    assert (latest.state, latest.dropped) == (ReindexState.FINISHED, True)
    with pytest.raises(NotFound, match="no change of the model is under way"):
        catalog.reindexes.finish(built.id)
    catalog.reindexes.start(AFTER, BEFORE, {})  # and the way back


def test_a_change_that_was_given_up_leaves_no_trace_in_what_answers(catalog: Catalog) -> None:
    fill(catalog, "cat")
    reindex = begin(catalog)
    with pytest.raises(InvalidInput, match="another change of the model is under way"):
        catalog.reindexes.start(BEFORE, AFTER, {})
    catalog.reindexes.queue_page(reindex, limit=10)
    catalog.reindexes.abort(reindex.id)
    assert catalog.reindexes.queue_page(reindex, limit=10) == []
    assert catalog.reindexes.serving() is None
    catalog.register(None, T, SPACE.id, [new("dog")])
    assert catalog.pending_work(OTHER_SPACE.id) == 1  # the cat's, until it is cleared away
    assert catalog.reindexes.forget_part(OTHER_SPACE.id) == 0
    catalog.reindexes.dropped(reindex.id)
    assert catalog.pending_work(OTHER_SPACE.id) == 0
    begin(catalog)


def test_one_at_a_time_has_the_lease(catalog: Catalog) -> None:
    begin(catalog)
    taken: list[str] = []

    def take(name: str) -> None:
        if catalog.reindexes.lease(owner=name, lease_s=60) is not None:
            taken.append(name)

    threads = [threading.Thread(target=take, args=(f"worker {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    active = catalog.reindexes.active()
    assert active is not None
    catalog.reindexes.release(active.id, owner="another", error="not mine to say")
    assert catalog.reindexes.lease(owner="another", lease_s=60) is None
    catalog.reindexes.release(active.id, owner=taken[0], error="the disk is full")
    stopped = catalog.reindexes.active()
    assert stopped is not None
    assert stopped.error == "the disk is full"
    assert catalog.reindexes.lease(owner="another", lease_s=60) is not None


def test_what_was_refused_is_looked_at_again_with_other_options(catalog: Catalog) -> None:
    fill(catalog, "cat")
    begin(catalog)
    built = build(catalog)
    catalog.reindexes.judged(built.id, {"gates": [{"name": "quality", "passed": False}]}, passed=False)
    with pytest.raises(InvalidInput, match="did not pass the gates"):
        catalog.reindexes.ask_swap(built.id)
    catalog.reindexes.renew_options(built.id, {"swap": True, "tolerance": 0.5})
    active = catalog.reindexes.active()
    assert active is not None
    assert (active.state, active.options["tolerance"]) == (ReindexState.BUILDING, 0.5)
    assert catalog.reindexes.queue_page(active, limit=10) == [], "all is there"
    assert build(catalog).state is ReindexState.CHECKING


def swapped(catalog: Catalog) -> Reindex:
    """Bring it to where the new space answers."""
    begin(catalog)
    built = build(catalog)
    catalog.reindexes.judged(built.id, {}, passed=True)
    assert catalog.reindexes.swap(built.id)
    return built


@pytest.mark.parametrize("end", ["finish", "abort"])
def test_what_comes_in_for_a_space_that_was_given_up_waits_for_the_one_that_answers(catalog: Catalog, end: str) -> None:
    """As an ingest does that began before the swap, or a process that has not noticed it."""
    fill(catalog, "cat")
    change = swapped(catalog)
    if end == "abort":
        catalog.reindexes.roll_back(change.id)
        catalog.reindexes.abort(change.id)
    else:
        catalog.reindexes.finish(change.id)
    gone, stays = (OTHER_SPACE.id, SPACE.id) if end == "abort" else (SPACE.id, OTHER_SPACE.id)
    ingest = catalog.start_ingest(T, ["pictures"])
    (registered,) = catalog.register(ingest, T, gone, [new("dog")])
    assert registered.needs_embedding
    assert catalog.mark_indexed(gone, [(id_of("dog"), 1.0)]) == [id_of("dog")], "its point must go"
    while catalog.reindexes.forget_part(gone):
        pass
    catalog.reindexes.dropped(change.id)
    catalog.register(None, T, gone, [new("owl")])
    assert catalog.pending_work(gone) == 0
    assert sorted(embed(catalog, stays)) == sorted([id_of("dog"), id_of("owl")])
    assert catalog.ingest(T, ingest).counts.added == 1
    (known,) = catalog.describe(None, T, gone, [Description("file:///dog.jpg", "A dog", {})]).values()
    assert not known.needs_embedding
    catalog.queue_for(gone, [id_of("dog")])
    assert catalog.pending_work(gone) == catalog.pending_work(stays) == 0, "it is there already"


def test_what_is_missing_is_counted_when_it_matters_and_gone_over_again(catalog: Catalog) -> None:
    fill(catalog, "cat", "dog")
    begin(catalog)
    built = build(catalog)
    catalog.reindexes.judged(built.id, {}, passed=True)
    catalog.register(None, T, SPACE.id, [new("owl")])
    catalog.mark_indexed(SPACE.id, [(id_of("owl"), 1.0)])
    catalog.fail_work(OTHER_SPACE.id, id_of("owl"), PictureFault.EMBEDDING_FAILED, "odd", final=True)
    assert (built.missing, catalog.reindexes.missing(built)) == (0, 1)
    assert not catalog.reindexes.swap(built.id, whatever_waits=True)
    again = build(catalog)
    assert (again.state, again.missing) == (ReindexState.CHECKING, 0), "it got another chance"
    catalog.reindexes.judged(built.id, {}, passed=True)
    assert catalog.reindexes.swap(built.id)


def test_pictures_that_wait_for_the_space_before_do_not_hide_those_that_wait_for_the_new_one(catalog: Catalog) -> None:
    fill(catalog, "cat")
    begin(catalog)
    built = build(catalog)
    catalog.reindexes.judged(built.id, {}, passed=True)
    catalog.register(None, T, SPACE.id, [new("dog"), new("owl")])
    catalog.mark_indexed(SPACE.id, [(id_of("dog"), 1.0)])
    catalog.mark_indexed(OTHER_SPACE.id, [(id_of("owl"), 1.0)])
    assert catalog.pending_work(SPACE.id) == catalog.pending_work(OTHER_SPACE.id)
    assert not catalog.reindexes.swap(built.id)
    touched = build(catalog).touched_at
    catalog.reindexes.ask_swap(built.id)
    assert build(catalog).touched_at > touched, "from now on it waits for what has just come in"
    embed(catalog, OTHER_SPACE.id)
    assert catalog.reindexes.swap(built.id)


def test_a_change_begins_after_the_registrations_under_way(catalog: Catalog) -> None:
    """Else a picture could be passed by that was registered before, and committed after its page."""
    catalog.record_space(OTHER_SPACE)
    begun: list[Reindex] = []
    starting = threading.Thread(target=lambda: begun.append(catalog.reindexes.start(BEFORE, AFTER, {})))
    with catalog._database.writing() as connection:
        registering.register(connection, None, T, SPACE.id, [new("cat")])
        starting.start()
        starting.join(0.5)
    starting.join()
    assert begun[0].total == 1


def test_a_lease_is_held_by_whoever_renews_it_and_by_nobody_else(catalog: Catalog) -> None:
    begin(catalog)
    leased = catalog.reindexes.lease(owner="me", lease_s=0.3)
    assert leased is not None
    assert catalog.reindexes.renew(leased.id, owner="me", lease_s=60)
    time.sleep(0.4)
    assert catalog.reindexes.lease(owner="another", lease_s=60) is None
    assert not catalog.reindexes.renew(leased.id, owner="another", lease_s=60)
