"""What a deployment says about generation."""

from __future__ import annotations

from pathlib import Path

import pytest

from phosphene.errors import InvalidSettings
from phosphene.settings import load_settings
from phosphene.types import GenerateMode


@pytest.fixture(autouse=True)
def nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no .env


def test_what_holds_when_nothing_is_said() -> None:
    settings = load_settings()
    assert (settings.generator, settings.generator_prior) == ("starter", None)
    assert settings.generate is GenerateMode.NEVER
    assert (settings.generations_per_day, settings.generation_queue) == (200, 16)
    assert settings.blocked_concepts == ()
    assert settings.moderation is None


@pytest.mark.parametrize(
    ("text", "limit"), [("none", None), ("unlimited", None), ("", None), (" None ", None), ("0", 0), ("12", 12)]
)
def test_a_budget_can_be_lifted(monkeypatch: pytest.MonkeyPatch, text: str, limit: int | None) -> None:
    monkeypatch.setenv("PHOSPHENE_GENERATIONS_PER_DAY", text)
    assert load_settings().generations_per_day == limit


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GENERATIONS_PER_DAY", "-1"),
        ("GENERATIONS_PER_DAY", "many"),
        ("GENERATION_QUEUE", "0"),
        ("BLOCKED_SCORE", "1.5"),
        ("GENERATE", "sometimes"),
    ],
)
def test_what_makes_no_sense_is_told_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PHOSPHENE_{name}", value)
    with pytest.raises(InvalidSettings, match=f"PHOSPHENE_{name}: "):
        load_settings()


def test_lists_and_modes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOSPHENE_BLOCKED_CONCEPTS", "weasels, @/etc/list.txt,")
    monkeypatch.setenv("PHOSPHENE_GENERATE", "when_unmatched")
    settings = load_settings()
    assert settings.blocked_concepts == ("weasels", "@/etc/list.txt")
    assert settings.generate is GenerateMode.WHEN_UNMATCHED
