"""Words that models say of pictures, apart from what owners say; and what these words are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from phosphene.catalog.database import Database, in_chunks, insert_into
from phosphene.catalog.ingests import ensure_tenant
from phosphene.catalog.models import AssetRow, CollectionItemRow, LabelModelRow
from phosphene.catalog.records import LabelModel, LabelModelKind
from phosphene.catalog.storable import storable
from phosphene.types import AssetId, CollectionId, SpaceId, TenantId


class Labels:
    """The labels of a catalogue; safe to use from many threads. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def models(self, tenant: TenantId, kind: LabelModelKind) -> list[LabelModel]:
        """List what a tenant's labels of a kind are made with, of all spaces, by name, the latest first."""
        row = LabelModelRow
        statement = select(row.kind, row.name, row.space_id, row.content, row.made_at)
        statement = statement.where(row.tenant_id == tenant, row.kind == kind)
        with self._database.reading() as connection:
            found = connection.execute(statement.order_by(row.name, row.made_at.desc())).all()
        return [
            LabelModel(LabelModelKind(kind), name, SpaceId(space), content, at)
            for kind, name, space, content, at in found
        ]

    def store_model(self, tenant: TenantId, model: LabelModel) -> None:
        """Keep a model in place of the one of the same kind, name and space. The space must be recorded."""
        with self._database.writing() as connection:
            ensure_tenant(connection, tenant)
            insert = insert_into(connection, LabelModelRow)
            replaced = {"content": insert.excluded.content, "made_at": insert.excluded.made_at}
            connection.execute(
                insert.on_conflict_do_update(index_elements=["tenant_id", "kind", "name", "space_id"], set_=replaced),
                {
                    "tenant_id": tenant,
                    "kind": model.kind,
                    "name": model.name,
                    "space_id": model.space_id,
                    "content": dict(model.content),
                    "made_at": model.made_at,
                },
            )

    def delete_model(self, tenant: TenantId, kind: LabelModelKind, name: str) -> bool:
        """Forget a model in all spaces; tell whether there was one."""
        row = LabelModelRow
        with self._database.writing() as connection:
            gone = connection.execute(
                delete(row)
                .where(row.tenant_id == tenant, row.kind == kind, row.name == storable(name))
                .returning(row.name)
            )
            return gone.first() is not None

    def set_keywords(
        self, tenant: TenantId, space_id: SpaceId, keywords: Mapping[AssetId, Mapping[str, float | None]]
    ) -> list[AssetId]:
        """Write automatic keywords over those before; give the pictures whose labels differ now."""
        said = {
            id_: {"keywords": [[word, known] for word, known in words.items()], "keywords_space": space_id}
            for id_, words in keywords.items()
        }
        with self._database.writing() as connection:
            return change(connection, tenant, said)

    def set_probe(self, tenant: TenantId, name: str, said: Mapping[AssetId, float | None]) -> list[AssetId]:
        """Give pictures a learned label with its probability, or take it (None); give those whose labels changed."""
        with self._database.writing() as connection:
            return change(connection, tenant, {id_: {name: one} for id_, one in said.items()}, part="probes")

    def flag(self, tenant: TenantId, said: Mapping[AssetId, Mapping[str, Any] | None]) -> list[AssetId]:
        """Flag pictures, None takes the flag away; those that somebody decided about stay as they are.

        Gives those that changed.
        """
        with self._database.writing() as connection:
            whole = {id_: {"moderation": one} for id_, one in said.items()}
            return change(connection, tenant, whole, keep=lambda labels: "by" in labels.get("moderation", {}))

    def count_rejected(self, tenant: TenantId, board: CollectionId) -> int:
        """Count the pictures on a board that moderation rejected."""
        on_board = CollectionItemRow.asset_id == AssetRow.id
        statement = (
            select(func.count())
            .select_from(AssetRow)
            .join(CollectionItemRow, on_board)
            .where(CollectionItemRow.collection_id == board, AssetRow.tenant_id == tenant)
            .where(AssetRow.labels["moderation"]["state"].as_string() == "rejected")
        )
        with self._database.reading() as connection:
            return connection.execute(statement).scalar_one()

    def change(self, tenant: TenantId, said: Mapping[AssetId, Mapping[str, Any]]) -> list[AssetId]:
        """Replace parts of the labels of pictures, None takes one away; give those whose labels changed."""
        with self._database.writing() as connection:
            return change(connection, tenant, said)


def change(
    connection: Connection,
    tenant: TenantId,
    said: Mapping[AssetId, Mapping[str, Any]],
    *,
    part: str | None = None,
    keep: Callable[[Mapping[str, Any]], bool] = lambda _: False,
) -> list[AssetId]:
    """Change parts of the labels of pictures, as `AssetLabels.from_json` reads them; the rest stays.

    `part`: of one of them, which is an object. What is empty or None is taken away. `keep` tells by the labels that a
    picture has, while nobody else can change them, that it stays as it is.

    Gives those pictures, of those there are, that changed.
    """
    rows: list[dict[str, Any]] = []
    for chunk in in_chunks(sorted(said)):
        locked = (
            select(AssetRow.id, AssetRow.labels)
            .where(AssetRow.id.in_(chunk), AssetRow.tenant_id == tenant)
            .order_by(AssetRow.id)
            .with_for_update()
        )
        for id_, before in connection.execute(locked):
            if keep(before or {}):
                continue
            mine = said[AssetId(id_)]
            after = _merged(before or {}, mine if part is None else {part: _merged((before or {}).get(part, {}), mine)})
            if after != (before or {}):
                rows.append({"the_id": id_, "labels": after})
    if rows:
        connection.execute(
            update(AssetRow).where(AssetRow.id == bindparam("the_id")).values(labels=bindparam("labels")), rows
        )
    return [AssetId(row["the_id"]) for row in rows]


def _merged(before: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**before, **said}.items() if value}
