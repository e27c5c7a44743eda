"""`phosphene classify`, `describe`, `keywords`: words for pictures."""

from __future__ import annotations

import base64
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from phosphene.cli import output
from phosphene.cli.options import ApiKey, Data, Json, Model, Server, backend, request_of
from phosphene.errors import InvalidInput
from phosphene.labels.vocabulary import SUBJECT, Vocabulary
from search_api.labelling import TemplateSet
from search_api.schemas.labels import (
    ClassifyRequest,
    ClassifyResponse,
    DescribeRequest,
    DescribeResponse,
    KeywordsRequest,
    KeywordsResponse,
    LabelCalibrationOut,
)

_SHOWN = 12  # words in use
Picture = Annotated[str, typer.Argument(metavar="FILE|ASSET", help="A picture file, or the id of an asset.")]


def classify(
    picture: Picture,
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="LABEL…", help="Any words; none: the subjects of the vocabulary.")
    ] = None,
    labels_file: Annotated[Path | None, typer.Option(help="Labels, one a line.")] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Each label by itself: any number of them may be right.")
    ] = False,
    templates: Annotated[
        str | None,
        typer.Option(metavar="plain|sentences|imagenet|FILE", help="Sentences with {} where the label goes."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 10,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Tell which of some labels a picture shows, without an example of any of them."""
    asked = [*(labels or ()), *(_lines(labels_file) if labels_file is not None else ())]
    request = request_of(
        ClassifyRequest,
        **picture_fields(picture),
        labels=asked or None,
        multi_label=multi_label,
        templates=_templates(templates),
        limit=limit,
    )
    with backend("classify", data=data, model=model, server=server, api_key=api_key) as opened:
        response = opened.classify(request)
    _print_classified(response, as_json=json)


def describe(
    picture: Picture,
    kind: Annotated[
        list[str] | None, typer.Option(help="subject, medium, style, colours, setting or mood; default: all.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=50, help="Phrases of each kind.")] = 3,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Describe a picture: of each kind of phrase those that are nearest to it."""
    request = request_of(DescribeRequest, **picture_fields(picture), kinds=kind or None, limit=limit)
    with backend("describe", data=data, model=model, server=server, api_key=api_key) as opened:
        response = opened.describe(request)
    _print_described(response, as_json=json)


def keywords(
    vocabulary: Annotated[
        Path | None, typer.Option(help="Your own words: a text file with one a line, or TOML (PHOSPHENE_VOCABULARY).")
    ] = None,
    min_probability: Annotated[float, typer.Option(help="Of a word that is written, between 0 and 1.")] = 0.3,
    most: Annotated[int, typer.Option(min=1, max=50, help="Words of one picture.")] = 8,
    new_only: Annotated[
        bool, typer.Option("--new-only", help="Only pictures that have none of this model yet.")
    ] = False,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Give the pictures of the catalogue keywords of a field of their own: --filter auto_keywords=fruit."""
    words = list(Vocabulary.read(vocabulary).words[SUBJECT]) if vocabulary is not None else None
    request = request_of(
        KeywordsRequest, vocabulary=words, min_probability=min_probability, most=most, new_only=new_only
    )
    with backend("keywords", data=data, model=model, server=server, api_key=api_key) as opened:
        response = opened.keywords(request)
    print_keywords(response, as_json=json)


def picture_fields(picture: str) -> dict[str, object]:
    """Say which picture a request is about. Raises InvalidInput for a file that can't be read."""
    try:
        return {"asset_id": UUID(picture)}
    except ValueError:
        pass
    try:
        return {"image": base64.b64encode(Path(picture).read_bytes()).decode()}
    except OSError as error:
        raise InvalidInput(f"{picture} is neither the id of an asset nor a picture file: {error.strerror}") from error


def print_keywords(response: KeywordsResponse, *, as_json: bool) -> None:
    """Print what became of a run."""
    if as_json:
        output.line(response.model_dump_json())
        return
    output.line(f"{response.with_keywords:,} of {response.pictures:,} pictures have keywords now")
    shown = ", ".join(f"{word} {count:,}" for word, count in islice(response.words.items(), _SHOWN))
    if shown:
        more = len(response.words) - _SHOWN
        output.line(f"most: {shown}" + (f" and {more:,} more words" if more > 0 else ""))
    output.line(response.note)
    if response.calibration is not None:
        for text in _calibration_lines(response.calibration):
            output.line(text)


def _calibration_lines(one: LabelCalibrationOut) -> list[str]:
    each = one.auroc_per_word
    told = [
        f"  learned from {one.words:,} words of {one.pictures:,} pictures; of words that were held out:",
        f"  AUROC {one.auroc:.3f}, per word {each.value:.3f} ({each.low:.3f} to {each.high:.3f})",
        f"  average precision {one.average_precision:.3f}, {one.share_carried:.3f} by chance",
    ]
    bins = [f"{part.predicted:.2f} -> {part.observed:.2f}" for part in one.reliability]
    return [*told, f"  said -> written by the owner: {', '.join(bins)}"]


def _print_classified(response: ClassifyResponse, *, as_json: bool) -> None:
    if as_json:
        output.line(response.model_dump_json())
        return
    for one in response.labels:
        share = "     " if one.probability is None else f"{one.probability:5.1%}"
        output.line(f"{share:>6}  {one.score:6.3f}  {one.label}")
    output.note(response.note)


def _print_described(response: DescribeResponse, *, as_json: bool) -> None:
    if as_json:
        output.line(response.model_dump_json())
        return
    output.line(response.text)
    for kind, ranked in response.phrases.items():
        output.line(f"{kind:8}  " + ", ".join(f"{one.label} {one.score:.3f}" for one in ranked))


def _templates(text: str | None) -> TemplateSet | list[str] | None:
    if text is None:
        return None
    return TemplateSet(text) if text in set(TemplateSet) else _lines(Path(text))


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: {getattr(error, 'strerror', None) or error}") from error
