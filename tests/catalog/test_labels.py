"""Words that models say are kept apart from what owners say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import AssetLabels, LabelModel, LabelModelKind
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, IngestId, TenantId
from tests.catalog.samples import OTHER_SPACE, SPACE, new

WHEN = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)
OTHER = TenantId("other")


def test_keywords_keep_their_order_and_stay_when_owners_describe_anew(catalog: Catalog, ingest: IngestId) -> None:
    (one,) = catalog.register(ingest, T, SPACE.id, [new("one", keywords=["mine"])])
    words: dict[str, float | None] = {"zebra": 0.9, "ant": 0.5, "moss": None}
    assert catalog.labels.set_keywords(T, SPACE.id, {one.asset_id: words}) == [one.asset_id]
    catalog.update_asset(T, one.asset_id, title="new", metadata={"keywords": ["other"]})
    found = catalog.asset(T, one.asset_id)
    assert list(found.labels.keywords.items()) == list(words.items())
    assert found.labels.keywords_space == SPACE.id
    assert found.metadata == {"keywords": ["other"]}


def test_only_what_changed_is_told_and_only_of_the_tenant(catalog: Catalog, ingest: IngestId) -> None:
    first, second = catalog.register(ingest, T, SPACE.id, [new("one"), new("two")])
    ids = [first.asset_id, second.asset_id]
    said: dict[AssetId, dict[str, float | None]] = {first.asset_id: {"cat": 0.5}, second.asset_id: {}}
    assert catalog.labels.set_keywords(OTHER, SPACE.id, said) == []
    assert catalog.labels.set_keywords(T, SPACE.id, said) == sorted(ids)
    assert catalog.labels.set_keywords(T, SPACE.id, said) == []
    assert catalog.labels.set_keywords(T, SPACE.id, {first.asset_id: {}}) == [first.asset_id]
    assert catalog.asset(T, first.asset_id).labels == AssetLabels({}, SPACE.id)


def test_models_are_kept_for_each_tenant_name_and_space(catalog: Catalog) -> None:
    catalog.record_space(OTHER_SPACE)
    kind = LabelModelKind.CALIBRATION
    here = LabelModel(kind, "keywords", SPACE.id, {"weights": [0.1 + 0.2, -1e-17]}, WHEN)
    there = LabelModel(kind, "keywords", OTHER_SPACE.id, {"weights": [1.5]}, WHEN + timedelta(days=1))
    again = LabelModel(kind, "keywords", SPACE.id, {"weights": [3.5]}, WHEN + timedelta(days=2))
    for one in (here, there):
        catalog.labels.store_model(T, one)
    catalog.labels.store_model(OTHER, here)
    assert catalog.labels.models(T, kind) == [there, here]
    catalog.labels.store_model(T, again)
    assert catalog.labels.models(T, kind) == [again, there]
    assert catalog.labels.models(OTHER, kind) == [here]
    assert catalog.labels.delete_model(T, kind, "keywords")
    assert not catalog.labels.delete_model(T, kind, "keywords")
    assert not catalog.labels.delete_model(T, kind, "\x00")  # PostgreSQL has no such text
    assert catalog.labels.models(OTHER, kind) == [here]


def test_a_decision_stands_though_a_scan_read_the_picture_before_it(catalog: Catalog, ingest: IngestId) -> None:
    (one,) = catalog.register(ingest, T, SPACE.id, [new("one")])
    flagged = {"state": "flagged", "concept": "fruit", "score": 0.5}
    assert catalog.labels.flag(T, {one.asset_id: flagged}) == [one.asset_id]
    decided = {**flagged, "state": "approved", "by": "Ada", "at": WHEN.isoformat()}
    catalog.labels.change(T, {one.asset_id: {"moderation": decided}})
    assert catalog.labels.flag(T, {one.asset_id: flagged}) == []
    assert catalog.labels.flag(T, {one.asset_id: None}) == []
    assert catalog.asset(T, one.asset_id).labels.moderation == decided


def test_rejected_pictures_of_a_board_are_counted(catalog: Catalog, ingest: IngestId) -> None:
    ids = [one.asset_id for one in catalog.register(ingest, T, SPACE.id, [new("one"), new("two"), new("three")])]
    board = catalog.collections.create(T, "three", items=ids[:2]).id
    states = zip(ids, ("rejected", "approved", "rejected"), strict=True)
    catalog.labels.change(T, {id_: {"moderation": {"state": state}} for id_, state in states})
    assert catalog.labels.count_rejected(T, board) == 1  # the third is not on it
    assert catalog.labels.count_rejected(OTHER, board) == 0
