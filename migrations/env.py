"""What alembic runs: on the connection that the program hands over, or on the database that the settings name."""

from __future__ import annotations

import sys

from alembic import context
from sqlalchemy import Connection

from phosphene.catalog.models import TABLES


def migrate(connection: Connection) -> None:
    """Run the scripts inside the caller's transaction."""
    context.configure(
        connection=connection,
        target_metadata=TABLES,
        render_as_batch=True,  # SQLite alters tables by copying them
        transactional_ddl=True,  # SQLite too: the connection says BEGIN itself
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def from_settings() -> None:
    """Migrate the database of the settings: a command-line `alembic` came here."""
    from phosphene.catalog.database import Database, sqlite_url
    from phosphene.catalog.migrate import locked_connection
    from phosphene.errors import PhospheneError
    from phosphene.settings import load_settings

    try:
        settings = load_settings()
        url = settings.database_url
        database = Database(url.get_secret_value() if url else sqlite_url(settings.data / "catalog.sqlite"))
        with database.translated_errors(), locked_connection(database) as connection:
            migrate(connection)
    except PhospheneError as error:
        sys.exit(f"phosphene: {error}")


if context.is_offline_mode():
    sys.exit("phosphene: --sql is not supported: the migrations look at the database")
given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    from_settings()
