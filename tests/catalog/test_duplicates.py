"""Pairs and clusters in the catalogue, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import combinations, permutations

import pytest

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.duplicates import best, keep_reason
from phosphene.catalog.records import NewAsset, Pair
from phosphene.looks import LOOK_BYTES, Looks, bands_of, hashes_of
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, TenantId
from tests.catalog.samples import SPACE, id_of, new

LOOK = bytes(range(256)) * 4 + bytes(LOOK_BYTES - 1024)


def pair(one: AssetId, other: AssetId) -> Pair:
    least, most = sorted((one, other))
    return Pair(least, most, probability=0.9, bits=2, likeness=0.99, cosine=0.9, recoloured=0.0, mirrored=False)


def registered(catalog: Catalog, *names: str, tenant: TenantId = T) -> list[AssetId]:
    items = [new(name) for name in names]
    looking = [NewAsset(one.info, one.uri, one.fingerprint, one.title, one.metadata, look=LOOK) for one in items]
    ids = [one.asset_id for one in catalog.register(None, tenant, SPACE.id, looking)]
    catalog.mark_indexed(SPACE.id, [(id_, 1.0) for id_ in ids])
    return ids


def test_pictures_wait_until_they_are_compared_and_again_by_another_rule(catalog: Catalog) -> None:
    a, b = registered(catalog, "a", "b")
    known = catalog.duplicates
    assert sorted(known.waiting(None, SPACE.id, rule=1, limit=9)) == sorted([(a, T), (b, T)])
    known.note(T, [a], [], rule=1)
    assert known.waiting(T, SPACE.id, rule=1, limit=9) == [(b, T)]
    assert known.count_waiting(T, SPACE.id, rule=1) == 1
    assert known.count_waiting(T, SPACE.id, rule=2) == 2
    assert known.compared(T, [a, b], rule=1) == {a}
    assert known.compared(T, [a, b], rule=2) == known.compared(TenantId("other"), [a, b], rule=1) == set()
    assert known.looks(T, [a, b]) == {a: LOOK, b: LOOK}
    assert known.without_look(None, after=None, limit=9) == []


@pytest.mark.parametrize("order", list(permutations(range(3)))[:4])
def test_clusters_are_what_pairs_connect_in_any_order(catalog: Catalog, order: tuple[int, ...]) -> None:
    a, b, c, d, e, f = registered(catalog, "a", "b", "c", "d", "e", "f")
    links = [pair(a, b), pair(c, d), pair(b, c)]
    for place in order:
        catalog.duplicates.note(T, [a], [links[place]], rule=1)
    catalog.duplicates.note(T, [e], [pair(e, f)], rule=1)
    found = {frozenset(cluster.asset_ids) for cluster in catalog.duplicates.clusters(T, after=None, limit=9)}
    assert found == {frozenset((a, b, c, d)), frozenset((e, f))}
    of = catalog.duplicates.cluster_of(T, [a, b, c, d, e, f])
    assert len({of[id_] for id_ in (a, b, c, d)}) == 1
    assert of[e] == of[f] != of[a]
    assert len(catalog.duplicates.pairs(T, [a, b, c, d])) == 3


def test_pages_of_clusters_hold_each_once(catalog: Catalog) -> None:
    ids = registered(catalog, *"abcdefgh")
    for one, other in zip(ids[::2], ids[1::2], strict=True):
        catalog.duplicates.note(T, [one, other], [pair(one, other)], rule=1)
    first = catalog.duplicates.clusters(T, after=None, limit=3)
    rest = catalog.duplicates.clusters(T, after=first[-1].id, limit=3)
    assert [len(first), len(rest)] == [3, 1]
    assert sorted(id_ for cluster in [*first, *rest] for id_ in cluster.asset_ids) == sorted(ids)


def test_a_picture_that_goes_takes_its_pairs_along(catalog: Catalog) -> None:
    a, b, c = registered(catalog, "a", "b", "c")
    catalog.duplicates.note(T, [a, b, c], [pair(*two) for two in combinations((a, b, c), 2)], rule=1)
    catalog.delete_asset(T, a)
    (cluster,) = catalog.duplicates.clusters(T, after=None, limit=9)
    assert set(cluster.asset_ids) == {b, c}
    catalog.delete_asset(T, b)
    assert catalog.duplicates.clusters(T, after=None, limit=9) == []
    catalog.duplicates.note(T, [c], [pair(b, c)], rule=1)  # found while b was being deleted
    assert catalog.duplicates.pairs(T, [b, c]) == []


def test_tenants_do_not_see_each_others(catalog: Catalog) -> None:
    other = TenantId("other")
    a, b = registered(catalog, "a", "b")
    c, d = registered(catalog, "c", "d", tenant=other)
    catalog.duplicates.note(T, [a, b], [pair(a, b)], rule=1)
    catalog.duplicates.note(other, [c, d], [pair(c, d)], rule=1)
    assert catalog.duplicates.cluster_of(other, [a, b]) == {}
    assert set(catalog.duplicates.cluster_of(other, [c, d])) == {c, d}
    assert catalog.duplicates.looks(other, [a]) == {}
    bands = bands_of(hashes_of(Looks.of([LOOK]).grey)).reshape(-1).tolist()
    assert {id_ for ids in catalog.duplicates.in_bands(other, bands).values() for id_ in ids} == {c, d}
    catalog.duplicates.forget(other)
    assert catalog.duplicates.clusters(other, after=None, limit=9) == []
    assert len(catalog.duplicates.clusters(T, after=None, limit=9)) == 1


def test_the_same_bytes_at_two_places_are_exact_duplicates(catalog: Catalog) -> None:
    catalog.register(None, T, SPACE.id, [new("a", "one.jpg"), new("a", "two.jpg"), new("b")])
    assert catalog.duplicates.several_places(T, after=None, limit=9) == [id_of("a")]
    assert catalog.duplicates.several_places(T, after=id_of("a"), limit=9) == []


def test_the_described_one_of_equal_pictures_is_kept(catalog: Catalog) -> None:
    catalog.register(None, T, SPACE.id, [new("a"), new("b", year=1990), new("c")])
    assets = [catalog.asset(T, id_of(name)) for name in "abc"]
    kept = best(assets)
    assert kept.id == id_of("b")
    assert "best described" in keep_reason(kept, [one for one in assets if one.id != kept.id])


def test_what_is_kept_is_found_then_large_then_described_then_little_compressed_then_early(catalog: Catalog) -> None:
    catalog.register(None, T, SPACE.id, [new("a"), new("b")])
    one, other = (catalog.asset(T, id_of(name)) for name in "ab")
    later = replace(other, added_at=one.added_at + timedelta(seconds=1))
    for kept, left, why in (
        (one, replace(later, generated=True, width=9999), "no model drew"),
        (replace(later, width=1200), replace(one, metadata={"year": 1990}), "the largest, 1200 x 480"),
        (replace(later, metadata={"year": 1990}), replace(one, format="png"), "best described"),
        (replace(later, format="png"), replace(one, bytes=99_999), "least compressed"),
        (replace(later, bytes=99_999), one, "least compressed"),
        (one, later, "the earliest"),
    ):
        for both in ([kept, left], [left, kept]):
            assert best(both) == kept, why
        assert why in keep_reason(kept, [left])
