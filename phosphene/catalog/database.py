"""Engines, transactions and their errors, on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import typing
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, DateTime, Engine, Interval, cast, create_engine, event, func, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from phosphene.catalog.base import UtcDateTime
from phosphene.errors import DamagedData, InvalidSettings, Unavailable

BUSY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10
IN_CHUNK = 5000  # ids in one IN (…): SQLite takes 32,766 parameters, PostgreSQL 65,535

_READS = "phosphene_reads"

_SQLITE_TROUBLE = {
    sqlite3.SQLITE_FULL: "has no room left: free some space on its disk and try again",
    sqlite3.SQLITE_BUSY: "is busy with another process's write: try again",
    sqlite3.SQLITE_LOCKED: "is busy with another process's write: try again",
    sqlite3.SQLITE_READONLY: "can't be written: check the permissions of the file and its folder",
    sqlite3.SQLITE_PERM: "can't be written: check the permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "can't be opened: check that its folder exists, and the permissions",
    sqlite3.SQLITE_IOERR: "lies on a disk that fails",
}

T = TypeVar("T")


class Database:
    """One SQL database: gives out connections inside a transaction and says clearly what goes wrong."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self.name = self.url.render_as_string(hide_password=True)
        self.engine = make_engine(self.url)
        self._reader = self.engine.execution_options(
            **({_READS: True} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"})
        )
        # SQLite has one writer: waiting here is fair and wakes at once, its own busy wait polls.
        self._one_writer: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if self.is_sqlite else contextlib.nullcontext()
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded mode's database."""
        return self.url.get_backend_name() == "sqlite"

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that is committed, and durable, when the block ends."""
        with self.translated_errors(), self._one_writer, self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection for selects: never waits for a writer."""
        with self.translated_errors(), self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turn the driver's errors into one line each."""
        try:
            yield
        except PoolTimeoutError as error:
            msg = f"all connections to the catalogue {self.name} are in use: try again"
            raise Unavailable(msg) from error
        except DBAPIError as error:
            raise self._explained(error) from error

    def _explained(self, error: DBAPIError) -> Exception:
        line = next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
        password = self.url.password
        if password:
            line = line.replace(str(password), "***")
        if isinstance(error.orig, sqlite3.DatabaseError):
            return self._explained_sqlite(error.orig, line)
        state = getattr(error.orig, "sqlstate", None) or ""
        if state in ("42P01", "42703"):
            msg = f"the catalogue {self.name} lacks a table or column ({line}): run `alembic upgrade head`"
            return Unavailable(msg)
        if state.startswith("53"):  # insufficient resources: disk full, out of memory, too many connections
            return Unavailable(f"the catalogue {self.name} has run out of room: {line}")
        if state in ("40001", "40P01", "55P03"):
            return Unavailable(f"the catalogue {self.name} is contended: {line}; try again")
        if state[:2] in ("22", "23", "42"):  # our own statement is wrong
            return error
        return Unavailable(f"the catalogue {self.name} does not answer: {line}")

    def _explained_sqlite(self, error: sqlite3.DatabaseError, line: str) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension
        catalogue = f"the catalogue {self.url.database}"
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return DamagedData(f"{catalogue} is damaged ({line}): restore it from a backup")
        if "no such table" in line or "no such column" in line:
            return Unavailable(f"{catalogue} lacks a table or column ({line}): run `alembic upgrade head`")
        if code in _SQLITE_TROUBLE:
            return Unavailable(f"{catalogue} {_SQLITE_TROUBLE[code]}")
        return error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def parse_url(url: str) -> URL:
    """Read a database URL, or a path, which means SQLite. Raises InvalidSettings; never repeats a password."""
    if "://" not in url:
        return URL.create("sqlite", database=url)
    for short in ("postgres://", "postgresql://"):
        if url.startswith(short):
            url = "postgresql+psycopg://" + url.removeprefix(short)
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        msg = f"PHOSPHENE_DATABASE_URL is no database URL ({url.split('://')[0]}://…): write postgresql+psycopg://user:password@host/name"
        raise InvalidSettings(msg) from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql") or (backend == "postgresql" and parsed.get_driver_name() != "psycopg"):
        msg = f"PHOSPHENE_DATABASE_URL names {parsed.drivername}: the catalogue is kept in postgresql+psycopg:// or sqlite:///"
        raise InvalidSettings(msg)
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        msg = "a catalogue in memory would be lost, and each thread would see another one: name a file, sqlite:///path"
        raise InvalidSettings(msg)
    return parsed


def make_engine(url: URL, *, pooled: bool = True) -> Engine:
    """Make an engine whose transactions begin as we mean them to."""
    # Parameters hold prompts and titles: no error that is logged repeats them.
    options: dict[str, Any] = {"json_serializer": _to_json, "json_deserializer": _from_json, "hide_parameters": True}
    # 40 connections: as many as FastAPI has threads.
    options |= {"pool_size": 10, "max_overflow": 30, "pool_pre_ping": True} if pooled else {"poolclass": NullPool}
    if url.get_backend_name() == "postgresql":
        settings: dict[str, Any] = {"application_name": "phosphene"}
        if "connect_timeout" not in url.query:
            settings["connect_timeout"] = CONNECT_TIMEOUT_S
        return create_engine(url, connect_args=settings, **options)
    options.pop("pool_pre_ping", None)  # a file does not hang up
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None}, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _from_json(text: str | bytes) -> object:
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | float:
    # PostgreSQL writes 1e300 out in full.
    return int(digits) if len(digits) < 19 or -(2**63) <= int(digits) < 2**63 else float(digits)


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The first pragma waits as long as it must; the journal mode stays with the file.
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _write_ahead(connection: sqlite3.Connection) -> None:
    # Going over to a write-ahead log needs the file for itself, and where several programs try SQLite does not wait.
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later can fail with "locked" without waiting.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(_READS) else "BEGIN IMMEDIATE")


def sqlite_url(path: Path) -> str:
    """Give the URL of a catalogue in a file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def insert_into(connection: Connection, model: type[Any]) -> postgresql.Insert:
    """Begin an INSERT that may say `on_conflict_do_…`: both dialects write it alike."""
    if connection.dialect.name == "sqlite":
        return typing.cast("postgresql.Insert", sqlite.insert(model))
    return postgresql.insert(model)


def now() -> datetime:
    """Give the time as the catalogue keeps it."""
    return datetime.now(UTC)


def in_chunks(values: Sequence[T], size: int = IN_CHUNK) -> Iterator[Sequence[T]]:
    """Cut a list so that each part fits one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def database_time(connection: Connection) -> ColumnElement[datetime]:
    """Give the time that leases are told by: the clocks of nodes differ, the database's is one."""
    if connection.dialect.name == "postgresql":
        return func.now()
    return literal(now(), UtcDateTime)


def later(connection: Connection, at: ColumnElement[datetime], seconds: float) -> ColumnElement[datetime]:
    """Give a time some seconds after `database_time`."""
    if connection.dialect.name == "postgresql":
        return cast(at + literal(timedelta(seconds=seconds), Interval), DateTime(timezone=True))
    return literal(now() + timedelta(seconds=seconds), UtcDateTime)
