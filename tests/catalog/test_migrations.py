"""The migrations make exactly the tables of the models, up and down, whoever runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from phosphene.catalog import migrate
from phosphene.catalog.catalog import Catalog
from phosphene.catalog.database import Database
from phosphene.catalog.models import TABLES
from phosphene.errors import Unavailable
from phosphene.types import DEFAULT_TENANT as T
from tests.catalog.samples import SPACE, new

ROOT = Path(__file__).parents[2]


def tables(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(inspect(connection).get_table_names())


def test_the_migrated_schema_is_the_models(catalog_url: str) -> None:
    database = Database(catalog_url)
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, TABLES) == []
    assert tables(database) == {*TABLES.tables, "alembic_version"}
    database.close()


def test_up_down_and_up_again(catalog_url: str) -> None:
    database = Database(catalog_url)
    for _ in range(2):
        migrate.run(database, "head")
        assert "assets" in tables(database)
        migrate.run(database, "base")
        assert tables(database) == {"alembic_version"}
    migrate.run(database, "head")
    database.close()
    catalog = Catalog.at(catalog_url, migrate=False)
    assert catalog.count_assets(T) == 0
    catalog.close()


def test_every_step_down_and_up_keeps_to_the_models(catalog_url: str) -> None:
    database = Database(catalog_url)
    migrate.run(database, "head")
    migrate.run(database, "-1")
    migrate.run(database, "head")
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), TABLES) == []
    database.close()


def test_a_migrated_catalogue_is_left_alone(catalog_url: str) -> None:
    for _ in range(3):
        catalog = Catalog.at(catalog_url, migrate=True)
        catalog.record_space(SPACE)
        catalog.register(None, T, SPACE.id, [new("cat")])
        assert catalog.count_assets(T) == 1
        catalog.close()


def test_without_tables_and_without_leave_to_make_them(catalog_url: str) -> None:
    with pytest.raises(Unavailable, match="has no tables yet: run `alembic upgrade head`"):
        Catalog.at(catalog_url, migrate=False)


@pytest.mark.parametrize("leave", [True, False])
def test_a_newer_catalogue_is_not_touched(catalog_url: str, leave: bool) -> None:  # noqa: FBT001  a parameter
    Catalog.at(catalog_url, migrate=True).close()
    database = Database(catalog_url)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(Unavailable, match=r"newer Phosphene .*9999"):
        Catalog.at(catalog_url, migrate=leave)


STARTER = """
import sys
from phosphene.catalog.catalog import Catalog
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
Catalog.at(sys.argv[1], migrate=True).close()
"""


def test_programs_that_start_at_once_migrate_once(catalog_url: str) -> None:
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, catalog_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(4)
    ]
    for node in nodes:
        assert node.stdout is not None
        assert node.stdout.readline() == "ready\n"
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write("go\n")
        node.stdin.flush()
    errors = [node.communicate(timeout=120)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0] * 4, errors
    Catalog.at(catalog_url, migrate=False).close()


def test_a_migration_that_fails_leaves_nothing(catalog_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half of the tables can't be made; the first half must not stay."""
    from alembic import op

    create = op.create_table

    def fail_late(name: str, *columns: object, **options: object) -> object:
        if name == "work":
            msg = "the power went"
            raise OSError(msg)
        return create(name, *columns, **options)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(op, "create_table", fail_late)
    with pytest.raises(OSError, match="the power went"):
        Catalog.at(catalog_url, migrate=True)
    monkeypatch.undo()
    database = Database(catalog_url)
    assert tables(database) == set()
    database.close()
    Catalog.at(catalog_url, migrate=True).close()


def alembic(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_alembic_itself_migrates_what_the_settings_name(catalog_url: str, tmp_path: Path) -> None:
    if "://" in catalog_url:
        environment, place = {"PHOSPHENE_DATABASE_URL": catalog_url}, catalog_url
    else:
        environment, place = {"PHOSPHENE_DATA": str(tmp_path)}, str(tmp_path / "catalog.sqlite")
    done = alembic("upgrade", "head", **environment)
    assert done.returncode == 0, done.stderr
    Catalog.at(place, migrate=False).close()
    assert alembic("check", **environment).returncode == 0
    done = alembic("downgrade", "base", **environment)
    assert done.returncode == 0, done.stderr
    with pytest.raises(Unavailable):
        Catalog.at(place, migrate=False)


def test_alembic_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    failed = alembic("upgrade", "head", PHOSPHENE_DATA=str(tmp_path / "nowhere"))
    assert failed.returncode == 1
    line = f"phosphene: the catalogue {tmp_path}/nowhere/catalog.sqlite can't be opened: check that its folder exists"
    assert failed.stderr.strip() == f"{line}, and the permissions"
