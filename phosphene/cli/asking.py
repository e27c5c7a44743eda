"""What `phosphene search` was told, as the request that it is over HTTP."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from phosphene.cli.backend import uuid_of
from phosphene.errors import InvalidInput, InvalidQuery
from phosphene.types import GenerateMode
from phosphene.words.fusion import Fusion, Mode
from search_api.schemas import FieldsIn, SearchRequest

_WEIGHTED = re.compile(r"(?P<weight>-?(?:\d+(?:\.\d+)?|\.\d+)):(?P<rest>.+)", re.DOTALL)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WordsAsked:
    """How words are to be looked up beside the picture, as the command line has it; `weights` as PICTURE:WORDS."""

    mode: Mode = Mode.PICTURE
    fusion: Fusion = Fusion.RRF
    weights: str | None = None
    explain: bool = False

    def body(self) -> Json:
        """Give the fields of a request. Raises InvalidInput."""
        fields: Json = {"mode": self.mode, "fusion": self.fusion, "explain": self.explain}
        if self.weights is not None:
            picture, _, words = self.weights.partition(":")
            try:
                fields["weights"] = {"picture": float(picture), "words": float(words)}
            except ValueError as error:
                raise InvalidInput(f"--weights {self.weights!r}: write PICTURE:WORDS, like 1:2") from error
        return fields


@dataclass(frozen=True, slots=True)
class Question:
    """The options that say what to search with; images and assets may begin with a weight: 2:dog.jpg, -1:ID."""

    text: str | None
    plain: bool
    images: tuple[str, ...]
    assets: tuple[str, ...]
    excluded: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    edit: tuple[str, str] | None
    theta: float
    best_score: bool

    def request(
        self,
        *,
        limit: int,
        cursor: str | None,
        generate: GenerateMode | None,
        prior_search: bool,
        listing: Json,
        words: WordsAsked,
    ) -> SearchRequest:
        """Make the request; `listing` are the fields of ListOptions.

        Raises InvalidInput for a file that can't be read, InvalidQuery for what is no question.
        """
        if not (self.text is not None or self.images or self.assets or self.excluded or self.pairs):
            raise InvalidQuery("say what to search with: TEXT, --image FILE or --asset ID")
        body: Json = {"limit": limit, "cursor": cursor, "generate": generate, "prior_search": prior_search}
        body |= listing | self._sources() | words.body()
        body["exclude"] = [_source(one, "--not") for one in self.excluded]
        if self.pairs:
            body["context"] = [
                {"positive": _source(one, "--rather"), "negative": _source(other, "--than")}
                for one, other in self.pairs
            ]
        if self.edit is not None:
            body["edit"] = {"before": self.edit[0], "after": self.edit[1], "theta": self.theta}
        if self.best_score:
            body["strategy"] = "best_score"
        try:
            return SearchRequest.model_validate(body)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise InvalidQuery(wrong["msg"].removeprefix("Value error, ")) from error

    def _sources(self) -> Json:
        pictures = [_weighted("image", one) for one in self.images] + [
            _weighted("asset_id", one) for one in self.assets
        ]
        if self.text is None and len(pictures) == 1 and pictures[0]["weight"] == 1:
            ((name, value),) = ((name, value) for name, value in pictures[0].items() if name != "weight")
            return {name: value}
        if self.text is None:
            return {"parts": pictures}
        if not self.plain:
            return {"query": self.text, "parts": pictures}
        if pictures:
            return {"parts": [{"text": self.text}, *pictures]}
        return {"text": self.text}


def fields_of(declared: Sequence[str], *, description: str | None, facet: bool | None) -> FieldsIn:
    """Read NAME=KIND as fields to declare. Raises InvalidInput."""
    said = []
    for one in declared:
        name, equals, kind = one.partition("=")
        if not equals:
            raise InvalidInput(f"{one!r} is not understood: write NAME=KIND, as place=geo")
        said.append({"name": name.strip(), "kind": kind.strip(), "description": description, "facet": facet})
    try:
        return FieldsIn.model_validate({"fields": said})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise InvalidInput(f"{declared[int(wrong['loc'][1])]!r}: {wrong['msg']}") from error


def pairs_of(rather: Sequence[str], than: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair what comes after --rather with what comes after --than. Raises InvalidQuery."""
    if len(rather) != len(than):
        raise InvalidQuery(f"{len(rather)} --rather and {len(than)} --than: each --rather goes with one --than")
    return tuple(zip(rather, than, strict=True))


def _weighted(name: str, given: str) -> Json:
    found = None if Path(given).is_file() else _WEIGHTED.fullmatch(given)
    rest = given if found is None else found["rest"]
    value = _picture(Path(rest), "--image") if name == "image" else str(uuid_of(rest, "asset"))
    return {name: value, "weight": 1.0 if found is None else float(found["weight"])}


def _source(given: str, option: str) -> Json:
    """Read TEXT, FILE or asset:ID; a file's name has a dot or a slash."""
    if given.startswith("asset:"):
        return {"asset_id": str(uuid_of(given.removeprefix("asset:"), "asset"))}
    if ("." in given or "/" in given) and Path(given).is_file():
        return {"image": _picture(Path(given), option)}
    return {"text": given}


def _picture(path: Path, option: str) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InvalidInput(f"{option} {path}: {error.strerror}") from error
