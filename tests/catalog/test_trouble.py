"""What goes wrong with databases is said in one line, without the password."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from phosphene.catalog import database as database_module
from phosphene.catalog.catalog import Catalog
from phosphene.errors import DamagedData, InvalidSettings, PhospheneError, Unavailable
from phosphene.types import DEFAULT_TENANT as T
from tests.catalog.samples import SPACE, new
from tests.services import PASSWORD, PostgresServer, free_port, postgres_cluster


def said(error: PhospheneError) -> str:
    """Give the line; errors may be chained, but only the message is shown."""
    assert "\n" not in str(error)
    assert PASSWORD not in str(error)
    assert "hunter2" not in str(error)
    return str(error)


def test_a_wrong_password(postgres_server: PostgresServer) -> None:
    with pytest.raises(Unavailable) as caught:
        Catalog.at(postgres_server.url("postgres", password="hunter2"), migrate=True)  # noqa: S106  a wrong one
    assert "password authentication failed" in said(caught.value)
    assert "phosphene:***@127.0.0.1" in said(caught.value)


def test_a_missing_database(postgres_server: PostgresServer) -> None:
    with pytest.raises(Unavailable, match='database "missing" does not exist') as caught:
        Catalog.at(postgres_server.url("missing"), migrate=True)
    said(caught.value)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(Unavailable, match=r"does not answer.*refused") as caught:
        Catalog.at(f"postgresql://phosphene:hunter2@127.0.0.1:{free_port()}/x", migrate=True)
    said(caught.value)


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "CONNECT_TIMEOUT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(Unavailable, match="does not answer") as caught:
            Catalog.at(f"postgresql://phosphene:hunter2@127.0.0.1:{port}/x", migrate=True)
    said(caught.value)


def test_a_server_that_dies_and_comes_back() -> None:
    """Its own cluster, because it is killed."""
    with postgres_cluster() as server:
        catalog = Catalog.at(server.url("postgres"), migrate=True)
        with server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'phosphene'"
            )
        assert catalog.count_assets(T) == 0, "a connection that was cut is replaced unnoticed"
    with pytest.raises(Unavailable) as caught:
        catalog.count_assets(T)
    said(caught.value)
    with pytest.raises(Unavailable):
        catalog.ping()
    catalog.close()


@pytest.mark.parametrize(
    ("url", "clue"),
    [
        ("mysql://me:hunter2@host/x", "mysql"),
        ("postgresql+asyncpg://me:hunter2@host/x", "postgresql\\+psycopg"),
        ("nonsense://me:hunter2@host/x", "no database URL"),
        ("postgresql://me:hunter2@host:port/x", "no database URL"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_urls_that_name_no_database_for_us(url: str, clue: str) -> None:
    with pytest.raises(InvalidSettings, match=clue) as caught:
        Catalog.at(url, migrate=True)
    said(caught.value)


@pytest.mark.parametrize("form", ["postgres://", "postgresql://", "postgresql+psycopg://"])
def test_all_usual_forms_of_a_postgresql_url(postgres_url: str, form: str) -> None:
    catalog = Catalog.at(form + postgres_url.partition("://")[2], migrate=True)
    catalog.ping()
    assert PASSWORD not in catalog.name
    catalog.close()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[tuple[Catalog, Path]]:
    path = tmp_path / "catalog.sqlite"
    catalog = Catalog.at(str(path), migrate=True)
    catalog.record_space(SPACE)
    yield catalog, path
    catalog.close()


def test_a_full_disk(embedded: tuple[Catalog, Path]) -> None:
    """SQLite itself says it is full: the file may not grow."""
    catalog, path = embedded
    with catalog._database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    catalog._database.engine.dispose()
    event.listen(catalog._database.engine, "connect", limit)
    with pytest.raises(Unavailable, match="no room left: free some space") as caught:
        catalog.register(None, T, SPACE.id, [new(f"picture {number}", title="x" * 500) for number in range(500)])
    assert str(path) in said(caught.value)
    assert catalog.count_assets(T) == 0, "nothing was written by halves"
    event.remove(catalog._database.engine, "connect", limit)
    catalog._database.engine.dispose()
    catalog.register(None, T, SPACE.id, [new("cat")])
    assert catalog.count_assets(T) == 1, "with room again, it goes on"


def test_a_file_that_is_no_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(DamagedData, match=r"is damaged.*backup") as caught:
        Catalog.at(str(path), migrate=True)
    said(caught.value)


def test_a_catalogue_that_was_damaged(embedded: tuple[Catalog, Path]) -> None:
    catalog, path = embedded
    catalog.register(None, T, SPACE.id, [new(f"picture {number}") for number in range(300)])
    catalog.close()  # writes everything into the one file
    data = bytearray(path.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(DamagedData):
        Catalog.at(str(path), migrate=False).page_assets(tenant=T, after=None, limit=1000)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="can't be opened: check that its folder exists"):
        Catalog.at(str(tmp_path / "nowhere" / "catalog.sqlite"), migrate=True)


def test_another_process_that_writes_for_long(embedded: tuple[Catalog, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = embedded
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.2)
    impatient = Catalog.at(str(path), migrate=False)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="busy with another process's write"):
        impatient.start_ingest(T, [])
    assert impatient.count_assets(T) == 0, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    impatient.start_ingest(T, [])
    impatient.close()


def test_tables_that_are_gone(catalog: Catalog) -> None:
    with catalog._database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE quarantine")
    with pytest.raises(Unavailable, match=r"lacks a table or column.*alembic upgrade head") as caught:
        catalog.quarantined(T, None, after=None, limit=1)
    said(caught.value)


def test_an_error_inside_a_transaction_takes_it_back(catalog: Catalog) -> None:
    with pytest.raises(RuntimeError), catalog._database.writing() as connection:  # noqa: PT012  both are needed
        connection.exec_driver_sql("DELETE FROM spaces")
        raise RuntimeError
    assert len(catalog.spaces()) == 1


def test_more_threads_than_connections_wait_their_turn(catalog: Catalog) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                catalog.start_ingest(T, [])
                catalog.count_assets(T)
        except BaseException as error:  # noqa: BLE001  the test looks at it
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(catalog.ingests(T, 1000)) == 300
