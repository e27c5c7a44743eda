"""The processes that are up: a row each, renewed every few seconds, with the space that it answers from."""

from __future__ import annotations

from sqlalchemy import delete, select

from phosphene.catalog.database import Database, database_time, insert_into, later
from phosphene.catalog.models import ProcessRow
from phosphene.catalog.records import Process, ProcessRole
from phosphene.types import SpaceId

LIVING_S = 20.0  # one that has said nothing for so long is taken for dead


class Processes:
    """The processes that a catalogue knows; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, process: Process) -> None:
        """Note that a process is up, and what it says of itself; rows of the dead go."""
        with self._database.writing() as connection:
            at = database_time(connection)
            values = {
                "name": process.name[:200],
                "role": process.role,
                "space_id": process.answers,
                "opened": sorted(process.opened),
            }
            insert = insert_into(connection, ProcessRow).values(**values, seen_at=at)
            renewed = insert.on_conflict_do_update(
                index_elements=[ProcessRow.name], set_={**values, "seen_at": insert.excluded.seen_at}
            )
            connection.execute(renewed)
            connection.execute(delete(ProcessRow).where(ProcessRow.seen_at < later(connection, at, -LIVING_S)))

    def leave(self, name: str) -> None:
        """Note that a process ends."""
        with self._database.writing() as connection:
            connection.execute(delete(ProcessRow).where(ProcessRow.name == name[:200]))

    def living(self) -> list[Process]:
        """Give those that have shown life, by name."""
        with self._database.reading() as connection:
            since = later(connection, database_time(connection), -LIVING_S)
            rows = connection.execute(select(ProcessRow).where(ProcessRow.seen_at >= since).order_by(ProcessRow.name))
            return [
                Process(
                    name=row.name,
                    role=ProcessRole(row.role),
                    answers=SpaceId(row.space_id),
                    opened=frozenset(SpaceId(one) for one in row.opened),
                )
                for row in rows
            ]
