"""Words of other languages, with the English names of what they stand for, from CLDR's emoji annotations."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from training.clip.emoji import plain_code, read_concepts
from training.clip.wordnet import english_lemmas

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.clip.workspace import Workspace

LANGUAGES = ("de", "es", "fr", "it", "nl", "pt")
_MAX_MEANINGS = 40  # a keyword of more emoji than that says nothing of any of them
_MIN_LETTERS = 3
_WORD = re.compile(r"[^\W\d_]+")


def read_translations(workspace: Workspace) -> dict[str, list[str]]:
    """Names and keywords in LANGUAGES, each with the English names of all emoji that carry it.

    A text that is English as well ("burro", "pane") keeps its English meaning and is left out.
    """
    concepts = read_concepts(workspace)
    english = english_lemmas(workspace.wordnet) | {
        text for concept in concepts.values() for text in (concept.name, *concept.keywords)
    }
    meanings: dict[str, dict[str, None]] = defaultdict(dict)
    for language in LANGUAGES:
        for code, texts in emoji_texts(workspace, language).items():
            if code in concepts:
                for text in texts:
                    meanings[text][concepts[code].name] = None
    return {
        text: list(names)
        for text, names in sorted(meanings.items())
        if text not in english and len(names) <= _MAX_MEANINGS
    }


def emoji_texts(workspace: Workspace, language: str) -> dict[str, list[str]]:
    """Name and keywords of each emoji in a language, by code; the name comes first."""
    path = workspace.npm / "emojibase-data" / language / "data.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {plain_code(entry["hexcode"]): _texts(entry) for entry in entries}


def foreign_words(translations: Iterable[str], workspace: Workspace) -> set[str]:
    """Return the single words of the translations that are no English words."""
    return {word for text in translations for word in _WORD.findall(text)} - english_lemmas(workspace.wordnet)


def is_foreign(text: str, words: set[str]) -> bool:
    """Whether a text has a word that only other languages have: its English teacher cannot know what it means."""
    return any(word in words for word in _WORD.findall(text))


def _texts(entry: dict[str, object]) -> list[str]:
    tags = entry.get("tags", ())
    texts = (entry["label"], *(tags if isinstance(tags, list) else ()))
    lowered = (" ".join(str(text).lower().split()) for text in texts)
    return [text for text in lowered if sum(map(str.isalpha, text)) >= _MIN_LETTERS]
