"""Boards: whatever is moved, added and taken away, by however many at once, the order is the one that was asked for."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, update

from phosphene.catalog import collections
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.collections import MAX_ITEMS, Collection
from phosphene.catalog.database import now
from phosphene.catalog.models import CollectionShareRow
from phosphene.errors import InvalidCursor, InvalidInput, NotFound, Outdated
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, CollectionId, ShareId, TenantId
from tests.catalog.samples import SPACE, id_of, new

OTHER = TenantId("other")
NAMES = [f"p{number:02}" for number in range(12)]
IDS = [id_of(name) for name in NAMES]
UNKNOWN = AssetId(uuid4())


def filled(catalog: Catalog) -> Catalog:
    catalog.register(None, T, SPACE.id, [new(name) for name in NAMES])
    return catalog


@pytest.fixture
def boards(catalog: Catalog) -> Catalog:
    return filled(catalog)


def order(catalog: Catalog, board: Collection) -> list[AssetId]:
    return [item.asset_id for item in catalog.collections.items(T, board.id)]


def test_a_board_keeps_its_name_notes_pictures_and_order(boards: Catalog) -> None:
    board = boards.collections.create(T, "Spring \N{CHERRY BLOSSOM}", notes="for the cover", items=IDS[:3])
    assert (board.name, board.notes, board.count, board.version) == (
        "Spring \N{CHERRY BLOSSOM}",
        "for the cover",
        3,
        1,
    )
    assert order(boards, board) == IDS[:3]
    added, _ = boards.collections.add(T, board.id, [IDS[5], IDS[0], IDS[4], IDS[5]], note="later")
    assert added == 2
    assert order(boards, board) == [*IDS[:3], IDS[5], IDS[4]]
    assert [item.note for item in boards.collections.items(T, board.id)] == ["", "", "", "later", "later"]
    boards.collections.add(T, board.id, [IDS[7]], after=IDS[0])
    boards.collections.add(T, board.id, [IDS[8], IDS[9]], first=True)
    assert order(boards, board) == [IDS[8], IDS[9], IDS[0], IDS[7], IDS[1], IDS[2], IDS[5], IDS[4]]
    boards.collections.move(T, board.id, [IDS[2], IDS[8]], after=IDS[0])
    assert order(boards, board) == [IDS[9], IDS[0], IDS[2], IDS[8], IDS[7], IDS[1], IDS[5], IDS[4]]
    removed, changed = boards.collections.remove(T, board.id, [IDS[9], IDS[11]])
    assert (removed, changed.count) == (1, 7)
    boards.collections.note(T, board.id, IDS[0], "the best")
    assert boards.collections.items(T, board.id)[0].note == "the best"
    renamed = boards.collections.change(T, board.id, name="Summer")
    assert (renamed.name, renamed.notes) == ("Summer", "for the cover")
    assert renamed == boards.collections.one(T, board.id)
    boards.collections.delete(T, board.id)
    with pytest.raises(NotFound):
        boards.collections.one(T, board.id)
    assert boards.count_assets(T) == len(NAMES)


def test_boards_and_pictures_come_in_pages(boards: Catalog) -> None:
    made = [boards.collections.create(T, f"board {number}").id for number in range(5)]
    first = boards.collections.latest(T, before=None, limit=3)
    rest = boards.collections.latest(T, before=first[-1].id, limit=3)
    assert [board.id for board in [*first, *rest]] == made[::-1]
    board = boards.collections.create(T, "long", items=IDS)
    pages, after = [], None
    while page := boards.collections.items(T, board.id, after=after, limit=5):
        pages += [item.asset_id for item in page]
        after = page[-1].asset_id
    assert pages == IDS
    boards.collections.remove(T, board.id, [IDS[4]])
    with pytest.raises(InvalidCursor, match="left the board"):
        boards.collections.items(T, board.id, after=IDS[4])


def test_deleted_pictures_leave_their_boards(boards: Catalog) -> None:
    board = boards.collections.create(T, "board", items=IDS[:4])
    before = boards.collections.one(T, board.id).etag
    boards.delete_asset(T, IDS[1])
    assert order(boards, board) == [IDS[0], IDS[2], IDS[3]]
    assert boards.collections.one(T, board.id).etag != before
    boards.collections.move(T, board.id, [IDS[3]], first=True)
    assert order(boards, board) == [IDS[3], IDS[0], IDS[2]]


def test_what_is_wrong_changes_nothing(boards: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    board = boards.collections.create(T, "board", items=IDS[:4])
    monkeypatch.setattr(collections, "MAX_ITEMS", 6)
    wrong = (
        (NotFound, str(UNKNOWN), lambda: boards.collections.add(T, board.id, [IDS[5], UNKNOWN])),
        (NotFound, "not on this board", lambda: boards.collections.add(T, board.id, [IDS[5]], after=IDS[6])),
        (NotFound, "not on this board", lambda: boards.collections.move(T, board.id, [IDS[7]], first=True)),
        (NotFound, "not on this board", lambda: boards.collections.note(T, board.id, IDS[7], "x")),
        (InvalidInput, "behind itself", lambda: boards.collections.move(T, board.id, IDS[:2], after=IDS[0])),
        (InvalidInput, "twice", lambda: boards.collections.move(T, board.id, [IDS[0], IDS[0]], first=True)),
        (InvalidInput, "holds 6", lambda: boards.collections.add(T, board.id, IDS[4:8])),
        (NotFound, str(UNKNOWN), lambda: boards.collections.create(T, "x", items=[UNKNOWN])),
    )
    for kind, said, act in wrong:
        with pytest.raises(kind, match=said):
            act()
    assert boards.collections.one(T, board.id) == board
    assert order(boards, board) == IDS[:4]
    assert len(boards.collections.latest(T, before=None, limit=10)) == 1


def test_a_move_of_many_looks_them_up_once(boards: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    board = boards.collections.create(T, "b", items=IDS)
    looked = []
    look = collections._on_board

    def seen(connection: Connection, id_: CollectionId, assets: Sequence[AssetId]) -> set[UUID]:
        looked.append(id_)
        return look(connection, id_, assets)

    monkeypatch.setattr(collections, "_on_board", seen)
    boards.collections.move(T, board.id, IDS[::-1])
    assert order(boards, board) == IDS[::-1]
    assert looked == [board.id]  # once for each took 24 s for a thousand, and nobody else could write meanwhile


def test_a_change_based_on_an_old_state_is_refused(boards: Catalog) -> None:
    board = boards.collections.create(T, "board", items=IDS[:3])
    boards.collections.change(T, board.id, name="theirs", if_match=board.etag)
    for act in (
        lambda: boards.collections.change(T, board.id, name="mine", if_match=board.etag),
        lambda: boards.collections.add(T, board.id, [IDS[5]], if_match=board.etag),
        lambda: boards.collections.move(T, board.id, [IDS[1]], first=True, if_match=board.etag),
        lambda: boards.collections.remove(T, board.id, [IDS[1]], if_match=board.etag),
        lambda: boards.collections.note(T, board.id, IDS[1], "x", if_match=board.etag),
        lambda: boards.collections.delete(T, board.id, if_match=board.etag),
    ):
        with pytest.raises(Outdated, match="read it anew"):
            act()
    assert boards.collections.one(T, board.id).name == "theirs"
    assert order(boards, board) == IDS[:3]


def test_tenants_see_and_change_their_own_boards_only(boards: Catalog) -> None:
    board = boards.collections.create(T, "secret", items=IDS[:3])
    theirs = boards.collections.create(OTHER, "other")
    _, share = boards.collections.share(T, board.id, with_notes=True, expires_in_s=None)
    for act in (
        lambda: boards.collections.one(OTHER, board.id),
        lambda: boards.collections.items(OTHER, board.id),
        lambda: boards.collections.change(OTHER, board.id, name="x"),
        lambda: boards.collections.delete(OTHER, board.id),
        lambda: boards.collections.add(OTHER, board.id, [IDS[5]]),
        lambda: boards.collections.remove(OTHER, board.id, [IDS[0]]),
        lambda: boards.collections.move(OTHER, board.id, [IDS[1]], first=True),
        lambda: boards.collections.note(OTHER, board.id, IDS[0], "x"),
        lambda: boards.collections.share(OTHER, board.id, with_notes=True, expires_in_s=None),
        lambda: boards.collections.shares(OTHER, board.id),
        lambda: boards.collections.revoke(OTHER, board.id, share.id),
        lambda: boards.collections.latest(OTHER, before=board.id, limit=5),
        lambda: boards.collections.add(OTHER, theirs.id, [IDS[0]]),  # a picture of another tenant
        lambda: boards.collections.revoke(OTHER, theirs.id, share.id),
    ):
        with pytest.raises(NotFound):
            act()
    assert [one.id for one in boards.collections.latest(OTHER, before=None, limit=5)] == [theirs.id]
    assert boards.collections.one(T, board.id) == board


def test_a_link_shows_its_board_until_it_is_revoked_or_expires(boards: Catalog) -> None:
    board = boards.collections.create(T, "board", items=IDS[:2])
    token, share = boards.collections.share(T, board.id, with_notes=False, expires_in_s=3600)
    other, _ = boards.collections.share(T, board.id, with_notes=True, expires_in_s=None)
    assert len(token) >= 40
    shown = boards.collections.opened(token)
    assert (shown.tenant, shown.collection, shown.with_notes) == (T, board.id, False)
    assert [one.id for one in boards.collections.shares(T, board.id)][1] == share.id
    for wrong in ("", token[:-1], token + "x", token.swapcase(), "\ud800", "' OR 1=1 --"):
        with pytest.raises(NotFound, match="shows nothing"):
            boards.collections.opened(wrong)
    with boards._database.writing() as connection:
        past = now() - timedelta(seconds=1)
        connection.execute(update(CollectionShareRow).where(CollectionShareRow.id == share.id).values(expires_at=past))
    with pytest.raises(NotFound, match="shows nothing"):
        boards.collections.opened(token)
    boards.collections.revoke(T, board.id, boards.collections.shares(T, board.id)[0].id)
    with pytest.raises(NotFound, match="shows nothing"):
        boards.collections.opened(other)
    with pytest.raises(NotFound, match="no link"):
        boards.collections.revoke(T, board.id, ShareId(uuid4()))
    again, _ = boards.collections.share(T, board.id, with_notes=True, expires_in_s=None)
    boards.collections.delete(T, board.id)
    with pytest.raises(NotFound, match="shows nothing"):
        boards.collections.opened(again)


def test_tokens_are_not_in_the_database(boards: Catalog) -> None:
    board = boards.collections.create(T, "board")
    token, _ = boards.collections.share(T, board.id, with_notes=True, expires_in_s=None)
    with boards._database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM collection_shares").all()
    assert token not in repr(rows)


def test_many_at_once_leave_every_picture_where_somebody_put_it(
    boards: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collections, "ROOM", 3)  # so that the board is numbered anew all the time
    board = boards.collections.create(T, "board", items=IDS[:8])
    gate = threading.Barrier(4)

    def shuffle(seed: int) -> None:
        dice = random.Random(seed)
        gate.wait()
        for _ in range(8):
            picture, anchor = dice.sample(IDS[:8], 2)
            boards.collections.move(T, board.id, [picture], after=anchor)
        boards.collections.add(T, board.id, [IDS[8 + seed]], after=IDS[seed])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(shuffle, range(4)))
    found = order(boards, board)
    assert sorted(found) == sorted(IDS)
    assert boards.collections.one(T, board.id).version == 1 + 4 * 8 + 4


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["add", "move", "remove"]),
        st.lists(st.integers(0, len(IDS) - 1), min_size=1, max_size=4, unique=True),
        st.one_of(st.integers(0, len(IDS) - 1), st.sampled_from(["first", "last"])),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def sqlite_boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    path: Path = tmp_path_factory.mktemp("boards") / "catalog.sqlite"
    catalog = Catalog.at(str(path), migrate=True)
    catalog.record_space(SPACE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(collections, "ROOM", 5)
        yield filled(catalog)
    catalog.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES)
def test_any_sequence_of_changes_is_that_of_a_list(
    sqlite_boards: Catalog, moves: list[tuple[str, list[int], int | str]]
) -> None:
    board = sqlite_boards.collections.create(T, "board", items=IDS[:6])
    model = IDS[:6]
    for step in moves:
        model = _step(sqlite_boards, board.id, model, step)
        assert order(sqlite_boards, board) == model
    assert sqlite_boards.collections.one(T, board.id).count == len(model) <= MAX_ITEMS


def _step(
    catalog: Catalog, board: CollectionId, model: list[AssetId], step: tuple[str, list[int], int | str]
) -> list[AssetId]:
    """Do it to the board, and to a list; what must be refused leaves both as they are."""
    act, numbers, where = step
    pictures = [IDS[number] for number in numbers]
    if act == "remove":
        removed, _ = catalog.collections.remove(T, board, pictures)
        assert removed == len(set(pictures) & set(model))
        return [one for one in model if one not in pictures]
    anchor = IDS[where] if isinstance(where, int) else None
    first = where == "first"
    moving = act == "move"
    fresh = pictures if moving else [one for one in pictures if one not in model]
    wrong = (anchor is not None and anchor not in model) or (moving and not set(pictures) <= set(model))
    wrong = wrong or (moving and anchor in pictures)
    change = catalog.collections.move if moving else catalog.collections.add
    if wrong:
        with pytest.raises((NotFound, InvalidInput)):
            change(T, board, pictures, after=anchor, first=first)
        return model
    change(T, board, pictures, after=anchor, first=first)
    rest = [one for one in model if one not in fresh]
    at = rest.index(anchor) + 1 if anchor is not None else 0 if first else len(rest)
    return [*rest[:at], *fresh, *rest[at:]]
