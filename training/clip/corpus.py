"""Texts on which the text tower learns to think like its teacher."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from open_clip.tokenizer import SimpleTokenizer

from training.clip.emoji import read_concepts
from training.clip.imagenet import read_photo_classes
from training.clip.picture import read_pictures
from training.clip.targets import picture_texts
from training.clip.wordnet import read_synsets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.clip.workspace import Workspace

SEED = 0
COMPOSED_TEXTS = 60_000
GLOSSES = 26_000
# WordNet's lexicographer files of nouns for what can be drawn or photographed, and some for what can be felt.
_VISIBLE_TOPICS = {"05", "06", "08", "13", "17", "18", "19", "20", "25", "27"}
_TOPICS = _VISIBLE_TOPICS | {"04", "09", "10", "11", "12", "14", "15", "21", "26", "28"}
_MAX_GLOSS_WORDS = 14
_MAX_ADJECTIVE = 9
_COLOURS_AND_LOOKS = [
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "gray",
    "golden",
    "dark",
    "bright",
    "big",
    "small",
    "old",
    "happy",
    "sad",
    "angry",
    "cute",
    "wild",
    "broken",
    "round",
    "wooden",
    "striped",
    "fresh",
    "funny",
    "young",
    "smiling",
    "sleeping",
    "flying",
    "running",
]
_TEMPLATES = (
    "a photo of a {}",
    "a picture of a {}",
    "a drawing of {}",
    "an icon of a {}",
    "{} clip art",
    "{} emoji",
    "an image of {}",
    "a {} on a white background",
    "the {}",
    "some {}",
    "a {} and a {}",
    "{} and {}",
    "{} with {}",
    "{} next to a {}",
    "a <look> {}",
    "<look> {}",
    "<look> {} and {}",
    "something like a {}",
    "{} cartoon",
    "a symbol for {}",
    "a kind of {}",
    "person with {}",
    "{} in the {}",
    "two <look> {}",
    "{} {}",
    "man with a {}",
    "a woman holding a {}",
    "a child with {}",
    "{} on a {}",
    "vehicle with {}",
    "animal with {}",
)
_PURPOSES = [
    "drink",
    "eat",
    "wear",
    "ride",
    "read",
    "write with",
    "play",
    "drive",
    "cook with",
    "cut with",
    "sit on",
    "sleep in",
    "throw",
    "wash with",
    "build with",
    "open",
    "lock",
    "measure with",
    "celebrate with",
    "listen to",
    "watch",
    "fly with",
    "climb",
    "keep warm",
    "clean with",
    "repair with",
    "carry",
    "hold",
    "see in the sky",
    "find at the beach",
    "find in a kitchen",
    "find in an office",
    "use in winter",
    "use in summer",
    "use in the rain",
    "find in a garden",
    "find on a farm",
    "find in the sea",
    "make music with",
    "take pictures with",
    "tell the time",
    "give as a present",
    "travel with",
    "decorate with",
    "draw with",
    "dig with",
    "pour",
    "bake",
    "grow",
    "cuddle",
    "be afraid of",
]


def assemble_corpus(workspace: Workspace) -> None:
    """Write `workspace.corpus`: texts of the training pictures first, then words, glosses and phrases."""
    if workspace.corpus.exists():
        return
    own = own_texts(workspace)
    vocabulary = _vocabulary()
    nouns, glosses, adjectives = _wordnet_texts(workspace, vocabulary)
    composed = _compose([text for text in own if len(text) < 25], nouns, adjectives)
    texts = dict.fromkeys([*own, *vocabulary, *nouns, *adjectives, *glosses, *composed])
    workspace.corpus.write_text("\n".join(texts) + "\n", encoding="utf-8")
    print(f"{len(own)} texts of pictures and photo classes, {len(texts)} texts in all")


def own_texts(workspace: Workspace) -> list[str]:
    """Texts that training pictures and photo classes carry: what matters most; no held-out clip art."""
    texts: set[str] = set()
    for concept in read_concepts(workspace).values():
        texts.update((concept.name, concept.subgroup, *concept.keywords))
    for picture in read_pictures(workspace.pictures):
        if picture.split == "train":
            texts.update(text for text, _ in picture_texts(picture))
    for photo_class in read_photo_classes(workspace):
        texts.update(text for text, _ in photo_class.weighted_texts)
    return sorted(text for text in texts if text)


def _vocabulary() -> list[str]:
    """Return the tokenizer's own whole words: the 20,000 or so most frequent ones of English captions."""
    entries = SimpleTokenizer().encoder
    words = (entry.removesuffix("</w>") for entry in entries if entry.endswith("</w>"))
    return [word for word in words if re.fullmatch(r"[a-z]{3,}", word)]


def _wordnet_texts(workspace: Workspace, vocabulary: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Nouns and adjectives made of frequent words only, and short definitions of visible things."""
    frequent = set(vocabulary)
    nouns: dict[str, None] = {}
    adjectives: dict[str, None] = {}
    glosses = []
    for synset in read_synsets(workspace.wordnet, "noun"):
        if synset.topic in _TOPICS:
            nouns.update(dict.fromkeys(lemma for lemma in synset.readable_lemmas if _is_frequent(lemma, frequent)))
        if synset.topic in _VISIBLE_TOPICS and synset.readable_lemmas:
            glosses.append(" ".join(synset.gloss.split()[:_MAX_GLOSS_WORDS]))
    for synset in (*read_synsets(workspace.wordnet, "adj"), *read_synsets(workspace.wordnet, "verb")):
        short = (lemma for lemma in synset.readable_lemmas if len(lemma) < _MAX_ADJECTIVE)
        adjectives.update(dict.fromkeys(lemma for lemma in short if _is_frequent(lemma, frequent)))
    chosen = random.Random(SEED).sample(glosses, min(GLOSSES, len(glosses)))
    return list(nouns), chosen, list(adjectives)


def _compose(own: list[str], nouns: list[str], adjectives: list[str]) -> list[str]:
    """Phrases as people type them, from templates."""
    chance = random.Random(SEED)
    texts = [f"something to {purpose}" for purpose in _PURPOSES]
    while len(texts) < COMPOSED_TEXTS:
        template = chance.choice(_TEMPLATES)
        looks = _COLOURS_AND_LOOKS if chance.random() < 0.7 else adjectives
        template = template.replace("<look>", chance.choice(looks))
        words = [chance.choice(own if chance.random() < 0.65 else nouns) for _ in range(template.count("{}"))]
        texts.append(template.format(*words))
    return texts


def _is_frequent(lemma: str, frequent: set[str]) -> bool:
    return all(word in frequent for word in re.split(r"[ -]", lemma))
