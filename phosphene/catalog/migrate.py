"""Bringing the schema up to date, by the program itself; `alembic upgrade head` runs the same scripts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from phosphene.catalog.database import Database, make_engine
from phosphene.errors import Unavailable

# Beside this package, in the work tree as in the wheel: looking it up by name could find another's `migrations`.
SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"
_LOCK = 0x70686F73  # PostgreSQL advisory locks are numbers: "phos"


def alembic_config(connection: Connection | None = None) -> Config:
    """Configure alembic without its ini file; env.py uses the connection where there is one."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """Name the revision that this Phosphene is written for."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        msg = f"no migrations in {SCRIPTS}: Phosphene is not installed completely"
        raise Unavailable(msg)
    return head


def revision_of(connection: Connection) -> str | None:
    """Name the revision that a database is at, None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def check_schema(database: Database) -> None:
    """Raise Unavailable where the schema is not the one that this Phosphene is written for."""
    with database.reading() as connection:
        current = revision_of(connection)
    wanted = newest_revision()
    if current == wanted:
        return
    if current is None:
        msg = f"the catalogue {database.name} has no tables yet: run `alembic upgrade head`"
        raise Unavailable(msg)
    _refuse_newer(database, current)
    msg = f"the catalogue {database.name} is at {current}, this Phosphene wants {wanted}: run `alembic upgrade head`"
    raise Unavailable(msg)


def _refuse_newer(database: Database, current: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if current not in known:
        msg = f"the catalogue {database.name} was written by a newer Phosphene (revision {current}): install that one"
        raise Unavailable(msg)


def upgrade(database: Database) -> None:
    """Bring the schema up to date, all or nothing; of several programs that start at once, one does it."""
    with database.translated_errors(), database.engine.execution_options().connect() as connection:
        current = revision_of(connection)
    if current == newest_revision():
        return
    if current is not None:
        _refuse_newer(database, current)
    with database.translated_errors():
        run(database, "head")


def run(database: Database, revision: str) -> None:
    """Go up or down to a revision in one transaction, while no other program migrates."""
    with locked_connection(database) as connection:
        config = alembic_config(connection)
        if revision == "base" or revision.startswith("-"):
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)


@contextlib.contextmanager
def locked_connection(database: Database) -> Iterator[Connection]:
    """Open a transaction in which no other program migrates."""
    engine = make_engine(database.url, pooled=False)
    try:
        with engine.connect() as connection:
            if database.is_sqlite:
                # SQLite alters a table by writing a new one and dropping the old, which would delete all that refers
                # to it. Takes effect only outside a transaction, hence on the driver's own connection.
                connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
            with connection.begin():  # on SQLite an immediate one: it waits for other writers
                if not database.is_sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                yield connection
    finally:
        engine.dispose()
