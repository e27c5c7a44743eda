"""Log lines: one object a line whatever is said, the ids that hold, and no secret."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import text

from phosphene import logs
from phosphene.catalog.catalog import Catalog
from phosphene.errors import InvalidSettings
from phosphene.jobs import JobName, LocalJobs
from phosphene.settings import Settings, load_settings

LOG = logging.getLogger("phosphene.test")
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)


def written(*, form: str = "json", secrets: tuple[str, ...] = (), said: str = "", broken: bool = False) -> str:
    stream = io.StringIO()
    logs.configure("json" if form == "json" else "plain", level="info", secrets=secrets, stream=stream)
    if broken:
        try:
            _break(said)
        except ValueError:
            LOG.exception("it broke")
    else:
        LOG.info("%s", said)
    return stream.getvalue()


def _break(said: str) -> None:
    raise ValueError(said)


@given(said=st.text(), broken=st.booleans())
def test_whatever_is_said_is_one_object_on_one_line(*, said: str, broken: bool) -> None:
    text = written(said=said, broken=broken)
    assert text.count("\n") == 1
    entry = json.loads(text)
    assert (entry["message"], entry["level"]) == (("it broke", "error") if broken else (said, "info"))
    assert entry["logger"] == "phosphene.test"
    if broken:
        assert "Traceback" in entry["exception"]


@given(around=st.text(min_size=1), form=st.sampled_from(["json", "plain"]), broken=st.booleans())
def test_a_secret_is_struck_out_wherever_it_stands(*, around: str, form: str, broken: bool) -> None:
    secret = 'pass"word\\/hunter2'  # noqa: S105  made up here
    text = written(form=form, secrets=(secret, secret[:10]), said=f"{around} {secret} {around}", broken=broken)
    assert secret not in text
    assert json.dumps(secret)[1:-1] not in text
    assert "***" in text


@given(st.dictionaries(st.sampled_from(["request_id", "ingest_id", "prompt"]), st.one_of(IDS, st.text())))
def test_only_ids_hold_and_only_in_their_block(given_ids: dict[str, str]) -> None:
    with logs.with_ids({"request_id": "outer"}):
        with logs.with_ids(given_ids):
            held = logs.ids()
            entry = json.loads(written(said="x"))
        assert logs.ids() == {"request_id": "outer"}
    wanted = {"request_id": "outer"} | {
        name: value for name, value in given_ids.items() if name != "prompt" and logs.is_id(value)
    }
    assert held == wanted
    assert wanted.items() <= entry.items()
    assert "prompt" not in entry


@given(st.text())
def test_an_id_is_short_and_plain(text: str) -> None:
    assert logs.is_id(logs.new_id())
    if logs.is_id(text):
        assert text.isascii()
        assert text.isprintable()
        assert 1 <= len(text) <= 64
        assert not set(text) & set(" \"'\\\n\r:;,{}")


def test_plain_lines_name_the_ids_before_what_follows_the_first_line() -> None:
    with logs.with_ids({"request_id": "r-1", "ingest_id": "i-1"}):
        first, *rest = written(form="plain", said="boom", broken=True).splitlines()
    assert first.endswith("ERROR phosphene.test: it broke [request_id=r-1 ingest_id=i-1]")
    assert rest[-1] == "ValueError: boom"


def test_a_job_here_goes_on_with_the_ids_of_whoever_handed_it_in() -> None:
    seen: list[dict[str, str]] = []
    done = threading.Event()

    def handle(**_: object) -> None:
        seen.append(logs.ids())
        done.set()

    jobs = LocalJobs({JobName.INGEST: handle}, capacity=2)
    with logs.with_ids({"request_id": "r-7"}):
        jobs.send(JobName.INGEST, {"ingest_id": "i-7", "sources": ["a b"]})
    assert done.wait(20)
    jobs.close()
    assert seen == [{"request_id": "r-7", "ingest_id": "i-7"}]


def test_secrets_of_the_settings_are_all_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHOSPHENE_API_KEYS", raising=False)
    settings = Settings(
        _env_file=None,
        api_keys=(SecretStr("museum:museum-secret-0123456789"),),
        metrics_key=SecretStr("scraper-secret-0123"),
        qdrant_url="http://qdrant:6333",
        qdrant_api_key=SecretStr("qdrant-secret"),
        database_url=SecretStr("postgresql+psycopg://me:p%40ss-word@db/x"),
        broker_url=SecretStr("amqp://me:rabbit-secret@mq//"),
    )
    assert set(settings.secrets()) == {
        "museum-secret-0123456789",
        "scraper-secret-0123",
        "qdrant-secret",
        "p%40ss-word",
        "p@ss-word",
        "rabbit-secret",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metrics_key": "short"}, "at least 16 characters"),
        (
            {"metrics_port": 9100, "metrics_host": "192.0.2.7"},
            "PHOSPHENE_METRICS_HOST=192.0.2.7 .* set PHOSPHENE_METRICS_KEY",
        ),
        ({"log_format": "yaml"}, "PHOSPHENE_LOG_FORMAT"),
    ],
)
def test_settings_that_would_not_do(given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        load_settings(**given)


def test_an_error_of_sql_does_not_repeat_what_was_to_be_written(tmp_path: Path) -> None:
    catalog = Catalog.at(str(tmp_path / "catalog.sqlite"), migrate=True)
    with pytest.raises(sqlite3.IntegrityError) as caught, catalog._database.writing() as connection:
        connection.execute(text("INSERT INTO assets (title) VALUES (:title)"), {"title": "a wistful heron"})
    catalog.close()
    logged = "".join(traceback.format_exception(caught.value)).replace('"a wistful heron"})', "")
    assert "[SQL: INSERT INTO assets" in logged
    assert "heron" not in logged
