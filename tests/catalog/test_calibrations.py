"""Calibrations are kept for each tenant, space and kind of question."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from phosphene.catalog.catalog import Catalog
from phosphene.catalog.records import CalibrationRecord
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import Modality, SpaceId, TenantId
from tests.catalog.samples import OTHER_SPACE, SPACE

WHEN = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)


def record(space: SpaceId = SPACE.id, modality: Modality = Modality.TEXT, **content: object) -> CalibrationRecord:
    return CalibrationRecord(space, modality, content, WHEN)


def test_what_is_stored_comes_back(catalog: Catalog) -> None:
    stored = record(threshold=0.1 + 0.2, weights=[1e-17, -2.5, 3.0], names={"ä": "ö"}, none=None)
    catalog.store_calibration(T, stored)
    assert catalog.calibrations(T) == [stored]
    assert catalog.calibrations(TenantId("other")) == []


def test_a_new_one_replaces_its_own_kind_only(catalog: Catalog) -> None:
    catalog.record_space(OTHER_SPACE)
    for tenant in (T, TenantId("other")):
        for space in (SPACE.id, OTHER_SPACE.id):
            for modality in Modality:
                catalog.store_calibration(tenant, record(space, modality, number=1))
    later = CalibrationRecord(SPACE.id, Modality.IMAGE, {"number": 2}, WHEN + timedelta(seconds=1))
    catalog.store_calibration(T, later)
    found = catalog.calibrations(T)
    assert found[0] == later
    assert sorted(one.content["number"] for one in found) == [1, 1, 1, 2]
    assert all(one.content["number"] == 1 for one in catalog.calibrations(TenantId("other")))
