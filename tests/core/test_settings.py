from __future__ import annotations

from pathlib import Path

import pytest

from phosphene.errors import InvalidSettings
from phosphene.settings import load_settings, unknown_names


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("PHOSPHENE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_nothing_set_means_embedded() -> None:
    settings = load_settings()
    assert settings.embedded
    assert settings.model == "starter"
    assert settings.host == "127.0.0.1"


def test_environment_and_dot_env_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PHOSPHENE_PORT=9000\nOTHER=1\n")
    monkeypatch.setenv("PHOSPHENE_DATA", "/somewhere")
    settings = load_settings()
    assert (settings.port, settings.data) == (9000, Path("/somewhere"))


@pytest.mark.parametrize(
    ("batch", "size", "compiled", "compiler"),
    [
        (None, None, None, None),
        ("auto", None, "0", None),
        ("32", 32, "1", "inductor"),
        ("", None, "aot_eager", "aot_eager"),
    ],
)
def test_how_pictures_go_through_the_model(
    monkeypatch: pytest.MonkeyPatch, batch: str | None, size: int | None, compiled: str | None, compiler: str | None
) -> None:
    for name, value in (("PHOSPHENE_BATCH_SIZE", batch), ("PHOSPHENE_COMPILE", compiled)):
        if value is not None:
            monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.batch_size, settings.compile) == (size, compiler)


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"PHOSPHENE_BATCH_SIZE": "many"}, "PHOSPHENE_BATCH_SIZE: .*integer"),
        ({"PHOSPHENE_BATCH_SIZE": "0"}, "PHOSPHENE_BATCH_SIZE"),
        ({"PHOSPHENE_COMPILE": "gcc"}, "PHOSPHENE_COMPILE: .*inductor"),
        ({"PHOSPHENE_PORT": "99999"}, "PHOSPHENE_PORT: .*65535"),
        ({"PHOSPHENE_PORT": "http"}, "PHOSPHENE_PORT"),
        ({"PHOSPHENE_BROKER_URL": "redis://localhost"}, "PHOSPHENE_DATABASE_URL, PHOSPHENE_QDRANT_URL"),
        ({"PHOSPHENE_QDRANT_API_KEY": "k"}, "PHOSPHENE_QDRANT_URL is not"),
        ({"PHOSPHENE_API_KEYS": "acme:short"}, "at least 16 characters"),
        ({"PHOSPHENE_INDEX_PROFILE": "huge"}, "PHOSPHENE_INDEX_PROFILE"),
    ],
)
def test_wrong_settings_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], complaint: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=complaint) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOSPHENE_API_KEYS", "acme:0123456789abcdef,other:fedcba9876543210")
    monkeypatch.setenv("PHOSPHENE_DATABASE_URL", "postgresql+psycopg://user:hunter2@db/phosphene")
    settings = load_settings()
    assert len(settings.api_keys) == 2
    assert "hunter2" not in repr(settings)
    assert "0123456789abcdef" not in repr(settings)


def test_a_misspelt_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOSPHENE_MODELL", "x")
    assert unknown_names() == ["PHOSPHENE_MODELL is not a setting; did you mean PHOSPHENE_MODEL?"]
