"""Calibrations: one for each tenant, space and kind of question."""

from __future__ import annotations

from sqlalchemy import Connection, select

from phosphene.catalog.database import insert_into
from phosphene.catalog.ingests import ensure_tenant
from phosphene.catalog.models import CalibrationRow
from phosphene.catalog.records import CalibrationRecord
from phosphene.types import Modality, SpaceId, TenantId


def store(connection: Connection, tenant: TenantId, record: CalibrationRecord) -> None:
    """Write a calibration over the one before."""
    ensure_tenant(connection, tenant)
    insert = insert_into(connection, CalibrationRow)
    replaced = {"content": insert.excluded.content, "made_at": insert.excluded.made_at}
    connection.execute(
        insert.on_conflict_do_update(index_elements=["tenant_id", "space_id", "modality"], set_=replaced),
        {
            "tenant_id": tenant,
            "space_id": record.space_id,
            "modality": record.modality,
            "content": dict(record.content),
            "made_at": record.made_at,
        },
    )


def of_tenant(connection: Connection, tenant: TenantId) -> list[CalibrationRecord]:
    """List a tenant's calibrations, the latest first."""
    columns = (CalibrationRow.space_id, CalibrationRow.modality, CalibrationRow.content, CalibrationRow.made_at)
    latest = CalibrationRow.made_at.desc()
    statement = select(*columns).where(CalibrationRow.tenant_id == tenant).order_by(latest, CalibrationRow.modality)
    return [
        CalibrationRecord(SpaceId(space), Modality(modality), content, made_at)
        for space, modality, content, made_at in connection.execute(statement)
    ]
