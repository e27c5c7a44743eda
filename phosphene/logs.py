"""Log lines, as text or as JSON, that say which request and which ingest they belong to.

The ids are kept in context variables: whoever starts a thread or sends a job hands them on (`ids`, `with_ids`).
Secrets of the settings are struck out of every line, whatever wrote it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

_IDS: ContextVar[Mapping[str, str]] = ContextVar("phosphene_ids", default={})  # noqa: B039  never changed, only replaced
_NAMES = ("request_id", "ingest_id", "generation_id", "task_id")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TALKATIVE = ("httpx", "httpx2", "alembic", "aiobotocore", "botocore")  # a line for each request to a store
_SHORTEST_SECRET = 6
EXTRA = "phosphene_fields"  # an attribute of records: more fields of a JSON line


def new_id() -> str:
    """Make an id for a request."""
    return uuid4().hex


def is_id(given: str) -> bool:
    """Tell whether this may stand in our logs and headers as an id: 1 to 64 of letters, digits and . _ -."""
    return _ID.fullmatch(given) is not None


def ids() -> dict[str, str]:
    """Give the ids that hold here."""
    return dict(_IDS.get())


@contextmanager
def with_ids(given: Mapping[str, Any]) -> Iterator[None]:
    """Let ids hold in this block, beside those that hold already. What is no id is passed over."""
    token = _IDS.set({**_IDS.get(), **_checked(given)})
    try:
        yield
    finally:
        _IDS.reset(token)


def set_ids(given: Mapping[str, Any]) -> None:
    """Let these ids, and no others, hold from now on: for a process that does one task after the other."""
    _IDS.set(_checked(given))


def _checked(given: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name in _NAMES if isinstance(value := given.get(name), str) and is_id(value)}


class _Formatter(logging.Formatter):
    """Strikes out secrets, and adds the ids."""

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        kept = sorted({one for one in secrets if len(one) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, kept))) if kept else None

    def struck(self, text: str) -> str:
        return text if self._secrets is None else self._secrets.sub("***", text)

    def format(self, record: logging.LogRecord) -> str:
        head, newline, rest = super().format(record).partition("\n")
        said = " ".join(f"{name}={value}" for name, value in ids().items())
        return self.struck(head + (f" [{said}]" if said else "") + newline + rest)


class _JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.struck(record.getMessage()),
            "pid": record.process,
            **ids(),
            **getattr(record, EXTRA, {}),
        }
        if record.exc_info:
            entry["exception"] = self.struck(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=True, default=str)


def configure(
    form: Literal["plain", "json"],
    *,
    level: str,
    secrets: Sequence[str] = (),
    stream: Any = None,  # noqa: ANN401  a text stream
) -> None:
    """Write all log lines of this process to standard error, in one form, without these secrets."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter(secrets) if form == "json" else _Formatter(secrets))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)  # noqa: FBT003  its signature
