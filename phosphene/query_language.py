"""The language of the search box: `2:dog + beach -snow orientation:landscape licence:cc0 NOT people`.

    dog on a beach          words are one text, as they stand
    dog + "red car"         ` + ` puts another part beside it; quotation marks keep whatever is in them plain
    2:dog + beach           a weight counts for its part: up to the next sign
    dog -snow               leads away from snow, by half as much; -1:snow by as much: one word, or a quoted text
    dog NOT people          takes out the pictures that show people; `no people` and `without people` do the same
    year:>=2005 year:2000..2010 keywords:cat|dog creator:*      conditions on fields; `-` or NOT before one negates it
    colour:#ff8800~0.1      a colour of the picture is near this one
    asset:0d8d6f4c-…        a picture of the catalogue, as a part, -asset:… or NOT asset:…

What is not unmistakably one of these is plain text: hyphens, dashes, 16:9, 10:30, `17" screen`, C++, a URL.
Errors say at which character, and what was expected there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from phosphene.errors import InvalidFilter, InvalidQuery
from phosphene.filter_terms import area_source, colour_source, typed_value
from phosphene.filters import (
    And,
    AnyOf,
    Equals,
    Exists,
    Filter,
    Inside,
    NearColour,
    Not,
    Range,
    Scalar,
    Within,
    parse_filter,
)
from phosphene.negation import listen
from phosphene.types import AssetId, Field, FieldKind

MAX_QUERY = 4_000  # characters
MAX_PARTS = 16
MAX_EXCLUDED = 8
MAX_WEIGHT = 100.0
# Of a minus without a weight. Of the demo's golden questions, 1 takes 26 % of the right pictures out of the first ten
# where they have nothing to do with what is led away from, 0.5 takes 7 %, 0.25 takes 1 % (docs/search.md).
MINUS_WEIGHT = 0.5

_WEIGHT = r"(?P<weight>\d{1,6}(?:\.\d{1,6})?|\.\d{1,6}):(?=[\"\w])(?!\d)"
_MINUS = r"-(?=\"|[^\W\d]|\d{0,6}\.?\d{1,6}:[\"\w](?<!\d))"
_HEAD = re.compile(rf"(?P<minus>{_MINUS})?(?:{_WEIGHT})?")
_CONDITION = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(?P<operator>:|>=|<=|!=|=|>|<)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BOUND = re.compile(r"(?P<operator>>=|<=|>|<)(?P<value>.*)", re.DOTALL)
_BARE_VALUE = re.compile(r"[A-Za-z0-9_][\w-]*")
_NO_WORDS = "this filter can't be written in the language of the search box"
_OPERATORS = {">=": "gte", ">": "gt", "<=": "lte", "<": "lt"}


@dataclass(frozen=True, slots=True)
class Term:
    """A text or a picture of the catalogue, and what it counts; below 0 it leads away."""

    text: str | None = None
    asset_id: AssetId | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """What was typed: what the pictures shall show, what they shall not, and conditions on their fields.

    Parts that lead away come last.
    """

    parts: tuple[Term, ...] = ()
    excluded: tuple[Term, ...] = ()
    filter: Filter | None = None


@dataclass(slots=True)
class _Run:
    """A part that is being read; quoted words are not looked into."""

    weight: float = 1.0
    words: list[str] = field(default_factory=list)
    quoted: list[bool] = field(default_factory=list)

    def add(self, word: str, *, quoted: bool) -> None:
        self.words.append(word)
        self.quoted.append(quoted)


@dataclass(frozen=True, slots=True)
class _Token:
    at: int  # characters before it
    source: str  # as it stands
    minus: bool = False
    weight: float | None = None
    text: str = ""
    quoted: bool = False
    asset_id: AssetId | None = None
    condition: Filter | None = None


def parse_query(source: str, fields: Sequence[Field]) -> ParsedQuery:
    """Read a query; `fields` are those that conditions may name.

    Raises InvalidQuery, which tells the character and what was expected.
    """
    if len(source) > MAX_QUERY:
        raise InvalidQuery(f"the query has {len(source):,} characters, {MAX_QUERY:,} are allowed")
    if "\x00" in source:
        raise InvalidQuery(f"{_at(source.index(chr(0)))}: a query can't hold the character NUL")
    parsed = _Reader(source, {one.name: one for one in fields}).read()
    if not (parsed.parts or parsed.excluded or parsed.filter):
        raise InvalidQuery("the text is empty: describe the picture in a few words")
    if len(parsed.parts) > MAX_PARTS:
        raise InvalidQuery(f"the query has {len(parsed.parts)} parts, {MAX_PARTS} are allowed: leave some + out")
    if len(parsed.excluded) > MAX_EXCLUDED:
        raise InvalidQuery(f"the query excludes {len(parsed.excluded)} things, {MAX_EXCLUDED} are allowed")
    return parsed


class _Reader:
    """Goes over the tokens once."""

    def __init__(self, source: str, fields: Mapping[str, Field]) -> None:
        self._source = source
        self._fields = fields
        self._shouted = _is_shouted(source)
        self._parts: list[Term] = []
        self._excluded: list[Term] = []
        self._conditions: list[Filter] = []
        self._run = _Run()

    def read(self) -> ParsedQuery:
        tokens = list(self._tokens())
        at = 0
        while at < len(tokens):
            token = tokens[at]
            if self._is_plus(tokens, at):
                self._end_run()
            elif self._is_not(tokens, at):
                at = self._read_excluded(tokens, at + 1)
                continue
            else:
                self._read_token(token)
            at += 1
        self._end_run()
        found = tuple(self._conditions)
        return ParsedQuery(
            tuple(sorted(self._parts, key=lambda part: part.weight < 0)),
            tuple(dict.fromkeys(self._excluded)),
            None if not found else found[0] if len(found) == 1 else And(found),
        )

    def _read_token(self, token: _Token) -> None:
        if token.condition is not None:
            self._conditions.append(Not(token.condition) if token.minus else token.condition)
        elif token.asset_id is not None:
            if not token.minus:
                self._end_run()
            self._parts.append(Term(asset_id=token.asset_id, weight=_signed(token)))
        elif token.minus:
            self._parts.append(Term(_text(token), weight=_signed(token)))
        else:
            if token.weight is not None:
                self._end_run()
                self._run.weight = token.weight
            self._run.add(_text(token), quoted=token.quoted)

    def _read_excluded(self, tokens: Sequence[_Token], at: int) -> int:
        """Read what stands behind NOT, and give the place where the query goes on."""
        first = tokens[at]
        if first.weight is not None or first.minus:
            sign = "-" if first.minus else f"{first.weight:g}:"
            raise InvalidQuery(f"{_at(first.at)}: after NOT comes what shall not be seen, without {sign!r}")
        if first.condition is not None:
            self._conditions.append(Not(first.condition))
            return at + 1
        if first.asset_id is not None:
            self._excluded.append(Term(asset_id=first.asset_id))
            return at + 1
        words = []
        while at < len(tokens) and _is_word(tokens[at]) and not self._is_plus(tokens, at):
            if self._is_not(tokens, at):
                break
            words.append(_text(tokens[at]))
            at += 1
        self._excluded.append(Term(" ".join(words)))
        return at

    def _end_run(self) -> None:
        run, self._run = self._run, _Run()
        if not run.words:
            return
        kept, excluded = listen([None if quoted else word for word, quoted in zip(run.words, run.quoted, strict=True)])
        self._excluded += [Term(text) for text in excluded]
        text = " ".join(run.words[at] for at in kept)
        if excluded:
            text = text.strip(" ,;")
        if any(letter.isalnum() for letter in text) or (text and not excluded):
            self._parts.append(Term(text, weight=run.weight))

    def _is_not(self, tokens: Sequence[_Token], at: int) -> bool:
        """Whether a NOT takes out what follows it."""
        if tokens[at].source != "NOT" or self._shouted or at + 1 == len(tokens):
            return False
        return tokens[at + 1].source not in ("+", "NOT")

    def _is_plus(self, tokens: Sequence[_Token], at: int) -> bool:
        """Whether a lone plus parts what is around it: not at an end, and not in a sum."""
        if tokens[at].source != "+" or not 0 < at < len(tokens) - 1 or tokens[at + 1].source == "+":
            return False
        around = (tokens[at - 1], tokens[at + 1])
        return not all(token.weight is None and token.source.strip(".,").isdecimal() for token in around)

    def _tokens(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._source):
            if self._source[at].isspace():
                at += 1
                continue
            token, at = self._token(at)
            yield token

    def _token(self, at: int) -> tuple[_Token, int]:
        head = _HEAD.match(self._source, at)
        minus, weight = (head["minus"] is not None, head["weight"]) if head is not None else (False, None)
        start = head.end() if head is not None else at
        token = _Token(at, "", minus=minus, weight=None if weight is None else self._weight(weight, at))
        condition = _CONDITION.match(self._source, start)
        if condition is not None and (asset := self._asset(condition)) is not None:
            token, end = replace(token, asset_id=asset[0]), asset[1]
        elif condition is not None and weight is None and self._is_condition(condition):
            parsed, end = self._condition(condition)
            token = replace(token, condition=parsed)
        elif self._source[start] == '"':
            text, end = self._quotation(start)
            tail = self._end_of_word(end)
            token, end = replace(token, text=text + self._source[end:tail], quoted=True), tail
        else:
            end = self._end_of_word(start)
            token = replace(token, text=self._source[start:end])
        return replace(token, source=self._source[at:end]), end

    def _weight(self, text: str, at: int) -> float:
        weight = float(text)
        if not 0 < weight <= MAX_WEIGHT:
            raise InvalidQuery(f"{_at(at)}: a weight is above 0 and up to {MAX_WEIGHT:g}, not {text}")
        return weight

    def _quotation(self, start: int) -> tuple[str, int]:
        match = _QUOTED.match(self._source, start)
        if match is None:
            raise InvalidQuery(
                f'{_at(start)}: this quotation mark is not closed: expected another " behind the text, or none'
            )
        return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match.end()

    def _end_of_word(self, start: int) -> int:
        end = start
        while end < len(self._source) and not self._source[end].isspace():
            end += 1
        return end

    def _asset(self, condition: re.Match[str]) -> tuple[AssetId, int] | None:
        if condition["name"] != "asset" or condition["operator"] != ":" or "asset" in self._fields:
            return None
        end = self._end_of_word(condition.end())
        written = self._source[condition.end() : end]
        try:
            return AssetId(UUID(written)), end
        except ValueError as error:
            raise InvalidQuery(
                f"{_at(condition.end())}: expected the id of an asset after asset:, not {_shown(written)}"
            ) from error

    def _is_condition(self, condition: re.Match[str]) -> bool:
        """Whether this can be nothing else. Raises InvalidQuery where it looks so and names no field."""
        name, following = condition["name"], self._source[condition.end() :][:2]
        value = following[:1]
        if name in self._fields or (name == "colour" and value == "#"):
            return True
        if condition["operator"] != ":" or len(name) == 1 or not (value.isalnum() or value in ("*", '"', ">", "<")):
            return False
        near = difflib.get_close_matches(name, self._fields, n=1)
        hint = f"did you mean {near[0]}:?" if near else f"fields are {', '.join(sorted(self._fields))}."
        raise InvalidQuery(
            f"{_at(condition.start())}: there is no field {name!r}: {hint} If it is part of the text, put it in "
            'quotation marks: "…"'
        )

    def _colour(self, match: re.Match[str]) -> tuple[Filter, int]:
        end = self._end_of_word(match.end())
        try:
            parsed = parse_filter(colour_source(self._source[match.end() : end]), list(self._fields.values()))
        except InvalidFilter as error:
            raise InvalidQuery(f"{_at(match.end())}: {error}") from error
        return (Not(parsed) if match["operator"] == "!=" else parsed), end

    def _condition(self, match: re.Match[str]) -> tuple[Filter, int]:
        if match["name"] == "colour" and self._source[match.end() :][:1] == "#":
            return self._colour(match)
        one, operator, at = self._fields[match["name"]], match["operator"], match.end()
        values, end = self._values(one, at)
        try:
            if operator == ":":
                return self._by_colon(one, values), end
            ((value, _),) = values
            if operator in _OPERATORS:
                return _parsed({"field": one.name, _OPERATORS[operator]: typed_value(value, one)}, one), end
            equals = self._by_colon(one, values)
            return (Not(equals) if operator == "!=" else equals), end
        except InvalidFilter as error:
            raise InvalidQuery(f"{_at(at)}: {error}") from error
        except ValueError as error:
            raise InvalidQuery(
                f"{_at(at)}: after {match[0]} comes one value; for several write {one.name}:a|b"
            ) from error

    def _by_colon(self, one: Field, values: Sequence[tuple[str, bool]]) -> Filter:
        if len(values) > 1:
            return _parsed({"field": one.name, "any_of": [typed_value(value, one) for value, _ in values]}, one)
        value, quoted = values[0]
        if not quoted:
            if value == "*":
                return Exists(one.name)
            if one.kind is FieldKind.GEO:
                return _parsed(area_source(value, one), one)
            if (bound := _BOUND.fullmatch(value)) is not None:
                return _parsed(
                    {"field": one.name, _OPERATORS[bound["operator"]]: typed_value(bound["value"], one)}, one
                )
            if ".." in value:
                low, _, high = value.partition("..")
                bounds = {"gte": low, "lte": high}
                typed = {name: typed_value(bound, one) for name, bound in bounds.items() if bound}
                return _parsed({"field": one.name, **typed}, one)
        return _parsed({"field": one.name, "equals": typed_value(value, one)}, one)

    def _values(self, one: Field, at: int) -> tuple[list[tuple[str, bool]], int]:
        """Read values parted by |, each with whether it was quoted, and where they end."""
        values = []
        while True:
            if self._source[at : at + 1] == '"':
                value, end = self._quotation(at)
                values.append((value, True))
            else:
                end = at
                while end < len(self._source) and not self._source[end].isspace() and self._source[end] != "|":
                    end += 1
                values.append((self._source[at:end], False))
            if not values[-1][0]:
                raise InvalidQuery(f"{_at(at)}: expected a value of {one.name!r}, as {_example(one)}")
            if self._source[end : end + 1] != "|":
                break
            at = end + 1
        if end < len(self._source) and not self._source[end].isspace():
            raise InvalidQuery(f"{_at(end)}: expected a space or | behind the value of {one.name!r}")
        return values, end


def write_query(parsed: ParsedQuery) -> str:
    """Write a query that reads as this one. Raises InvalidQuery for a filter that the language has no words for."""
    said: list[str] = []
    for part in parsed.parts:
        sign = "-" if part.weight < 0 else "+ " if said else ""
        usual = MINUS_WEIGHT if part.weight < 0 else 1.0
        weight = "" if abs(part.weight) == usual else f"{_decimal(abs(part.weight))}:"
        said.append(f"{sign}{weight}{_written(part)}")
    if parsed.filter is not None:
        said.append(write_filter(parsed.filter))
    said += [f"NOT {_written(one)}" for one in parsed.excluded]
    return " ".join(said)


def write_filter(filter: Filter) -> str:  # noqa: A002  the field's word for it
    """Write the conditions of a filter. Raises InvalidQuery where the language has no words for it."""
    listed = filter.parts if isinstance(filter, And) else (filter,)
    return " ".join(_written_condition(one) for one in listed)


def _parsed(source: object, one: Field) -> Filter:
    return parse_filter(source, [one])


def _is_shouted(source: str) -> bool:
    """Whether all of it is in capitals, as in DO NOT ENTER: NOT is a word then."""
    said = [word for word in _QUOTED.sub(" ", source).split() if word != "NOT"]
    return any(map(str.isupper, said)) and not any(letter.islower() for word in said for letter in word)


def _is_word(token: _Token) -> bool:
    return token.condition is None and token.asset_id is None and token.weight is None and not token.minus


def _text(token: _Token) -> str:
    text = " ".join(token.text.split())
    if not text:
        raise InvalidQuery(f"{_at(token.at)}: expected words between the quotation marks")
    return text


def _signed(token: _Token) -> float:
    if token.minus:
        return -(MINUS_WEIGHT if token.weight is None else token.weight)
    return 1.0 if token.weight is None else token.weight


def _at(place: int) -> str:
    return f"character {place + 1}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _example(one: Field) -> str:
    if one.kind is FieldKind.KEYWORD:
        return f"{one.name}:cat or {one.name}:cat|dog"
    return f"{one.name}:2005 or {one.name}:>=2005"


def _decimal(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _written(term: Term) -> str:
    return _quote(term.text) if term.text is not None else f"asset:{term.asset_id}"


def _value(value: Scalar) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value if _BARE_VALUE.fullmatch(value) else _quote(value)
    return str(value)


def _written_condition(one: Filter) -> str:
    match one:
        case Not(part) if not isinstance(part, Not):
            return f"-{_written_condition(part)}"
        case Exists(name):
            return f"{name}:*"
        case Equals(name, value):
            return f"{name}:{_value(value)}"
        case AnyOf(colour=NearColour(colour, tolerance)):
            return f"colour:{colour}~{_decimal(tolerance)}"
        case AnyOf(name, values):
            return f"{name}:{'|'.join(_value(value) for value in values)}"
        case Within(name, lat, lon, radius_m):
            return f"{name}:{_decimal(lat)},{_decimal(lon)},{_decimal(radius_m)}m"
        case Inside(name, south, west, north, east):
            return f"{name}:{_decimal(south)},{_decimal(west)}..{_decimal(north)},{_decimal(east)}"
        case Range(name):
            return _written_range(name, one)
        case _:
            raise InvalidQuery(_NO_WORDS)


def _written_range(name: str, one: Range) -> str:
    bounds = {sign: getattr(one, key) for sign, key in _OPERATORS.items() if getattr(one, key) is not None}
    if bounds.keys() == {">=", "<="}:
        return f"{name}:{bounds['>=']}..{bounds['<=']}"
    if len(bounds) != 1:
        raise InvalidQuery(_NO_WORDS)
    ((sign, bound),) = bounds.items()
    return f"{name}:{sign}{bound}"
