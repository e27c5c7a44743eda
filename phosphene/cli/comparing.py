"""`phosphene embed` and `phosphene similarity`: texts, pictures and assets to vectors, and how alike they are."""

from __future__ import annotations

import contextlib
import glob
import json as json_text
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal
from uuid import UUID

import numpy as np
import typer
from pydantic import ValidationError

from phosphene.cli import output
from phosphene.cli.backend import Backend, uuid_of
from phosphene.cli.options import ApiKey, Data, Json, Model, Server, backend
from phosphene.errors import InvalidInput, Unavailable
from phosphene.types import Float32
from search_api.embedding import Encoding, from_base64, to_base64
from search_api.schemas import ComparedIn, EmbeddingsRequest, SimilarityRequest, SimilarityResponse
from search_api.schemas.embeddings import MAX_EMBEDDED

_REQUEST_BYTES = 24 * 2**20  # of pictures in one request, which carries a third more as base64
_SHOWN = 60  # characters of an input in a line
_INPUT = "A text; @FILE, a picture (or a glob of them); asset:ID; text:@HOME for a text that begins so."

Inputs = Annotated[list[str] | None, typer.Argument(metavar="INPUT…", help=_INPUT)]
Listed = Annotated[
    str | None, typer.Option("--from", metavar="FILE", help="Read more inputs from this file, one a line; -: stdin.")
]


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One thing to embed. `shown` is what the user wrote; a picture's bytes are read when they are needed."""

    shown: str
    text: str | None = None
    picture: Path | None = None
    asset: UUID | None = None
    vector: Float32 | None = None
    space: str | None = None  # that the vector is of, where the file beside it says so

    def read(self) -> bytes:
        """Read the picture. Raises InvalidInput."""
        if self.picture is None:
            raise InvalidInput(f"{self.shown} is no picture")
        try:
            return self.picture.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{self.shown}: {error.strerror}") from error

    def compared(self) -> ComparedIn:
        """Write it as the API takes it."""
        if self.picture is not None:
            return ComparedIn(image=self.read())
        vector = None if self.vector is None else to_base64(self.vector)
        try:
            return ComparedIn(text=self.text, asset_id=self.asset, vector=vector, space=self.space)
        except ValidationError as error:
            raise InvalidInput(f"{output.cut(self.shown, _SHOWN)!r}: {error.errors()[0]['msg']}") from error


def embed(
    inputs: Inputs = None,
    listed: Listed = None,
    target: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this .npy or .jsonl file; default: JSONL on stdout.")
    ] = None,
    encoding: Annotated[Encoding, typer.Option(help="How JSONL holds the numbers.")] = Encoding.FLOAT,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Embed texts, pictures and assets. A .npy file gets its inputs and space in FILE.npy.json."""
    asked = inputs_of(inputs or (), listed)
    if any(one.vector is not None for one in asked):
        raise InvalidInput("a .npy file holds vectors already: phosphene similarity compares them")
    kind = _kind_of(target)
    with backend("embed", data=data, model=model, server=server, api_key=api_key) as chosen:
        embedded = _embedded(asked, chosen)
        if target is None:
            for one, space, row in embedded:
                output.line(_jsonl(one, space, row, encoding))
            return
        first, counted = None, 0
        rows: list[Float32] = []
        with replacing(target) as file:
            for one, space, row in embedded:
                first, counted = first or space, counted + 1
                if kind == "npy":
                    rows.append(row)
                else:
                    file.write(_jsonl(one, space, row, encoding).encode() + b"\n")
            if kind == "npy":
                np.save(file, np.stack(rows))
    dimension = len(row)
    if kind == "npy":
        said = {"space": first, "dimension": dimension, "inputs": [one.shown for one in asked]}
        with replacing(target.with_name(f"{target.name}.json")) as file:
            file.write(json_text.dumps(said, ensure_ascii=False, indent=1).encode() + b"\n")
    done = {"space": first, "dimension": dimension, "vectors": counted, "output": str(target)}
    output.line(json_text.dumps(done) if json else f"{counted} vectors of {dimension} numbers in {first}: {target}")


def similarity(
    inputs: Inputs = None,
    against: Annotated[
        list[str] | None, typer.Option("--with", metavar="INPUT", help="Compare with this; give it several times.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="The first with the first --with, and so on.")] = False,
    data: Data = None,
    model: Model = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Compare texts, pictures, assets and vectors (@FILE.npy): cosine, and CLIP score (2.5 times it, at least 0)."""
    left, right = inputs_of(inputs or (), None), _parsed(against) if against else None
    for side in (left, right or ()):
        if len(side) > MAX_EMBEDDED:
            raise InvalidInput(f"{len(side)} inputs on one side, {MAX_EMBEDDED} are allowed: compare some at a time")
    request = SimilarityRequest(
        left=[one.compared() for one in left],
        right=None if right is None else [one.compared() for one in right],
        pairs=pairs,
    )
    with backend("similarity", data=data, model=model, server=server, api_key=api_key) as chosen:
        found = chosen.similarity(request)
    if json:
        named = {
            "left": [one.shown for one in left],
            "right": [one.shown for one in (left if right is None else right)],
        }
        output.line(json_text.dumps({**found.model_dump(mode="json"), **named}, ensure_ascii=False))
        return
    _print_similarity(found, left, left if right is None else right)


def inputs_of(given: Sequence[str], listed: str | None) -> list[Input]:
    """Read inputs of the command line, and those of a file. Raises InvalidInput."""
    lines: Iterable[str] = ()
    if listed == "-":
        lines = sys.stdin
    elif listed is not None:
        try:
            lines = Path(listed).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"--from {listed}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    found = _parsed([*given, *(line.strip() for line in lines if line.strip())])
    if not found:
        raise InvalidInput("nothing to embed: give a text, @FILE or asset:ID")
    return found


def _parsed(given: Sequence[str]) -> list[Input]:
    return [one for text in given for one in _inputs(text)]


def _inputs(text: str) -> list[Input]:
    if text.startswith("text:"):
        return [Input(text, text=text.removeprefix("text:"))]
    if text.startswith("asset:"):
        return [Input(text, asset=uuid_of(text.removeprefix("asset:"), "asset"))]
    if not text.startswith("@"):
        return [Input(text, text=text)]
    named = str(Path(text[1:]).expanduser())
    paths = [named] if Path(named).exists() else sorted(glob.glob(named, recursive=True))  # noqa: PTH207  may be absolute
    if not paths:
        raise InvalidInput(f"{text}: there is no such file; write text:{text} for a text that begins with @")
    return [one for path in paths for one in (_rows(path) if path.endswith(".npy") else _picture(path))]


def _picture(path: str) -> list[Input]:
    if Path(path).is_dir():
        raise InvalidInput(f"@{path} is a folder: name its pictures, as '@{path}/*.jpg'")
    return [Input(f"@{path}", picture=Path(path))]


def _rows(path: str) -> list[Input]:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"@{path}: no .npy file of numbers: {error}") from error
    if rows.ndim not in (1, 2) or rows.dtype.kind not in "fiu":
        raise InvalidInput(f"@{path} holds {rows.dtype} of shape {rows.shape}: vectors are rows (n, d) of numbers")
    rows = np.atleast_2d(rows).astype(np.float32)
    space = _space_beside(path)
    return [Input(f"@{path}[{at}]", vector=row, space=space) for at, row in enumerate(rows)]


def _space_beside(path: str) -> str | None:
    """Read what `phosphene embed` has written beside the vectors; None where it is not there."""
    try:
        said = json_text.loads(Path(f"{path}.json").read_bytes())
    except (OSError, ValueError):
        return None
    space = said.get("space") if isinstance(said, dict) else None
    return space if isinstance(space, str) else None


def _embedded(asked: Sequence[Input], chosen: Backend) -> Iterator[tuple[Input, str, Float32]]:
    """Embed some at a time, in order; all in one space. Raises Unavailable where the model is changed meanwhile."""
    space: str | None = None
    for part in _requests(asked):
        texts = [one for one, _ in part if one.text is not None]
        pictures = [one for one, data in part if data is not None]
        assets = [one for one, _ in part if one.asset is not None]
        try:
            request = EmbeddingsRequest(
                texts=[one.text or "" for one in texts],
                images=[data for _, data in part if data is not None],
                asset_ids=[one.asset for one in assets if one.asset is not None],
                encoding=Encoding.BASE64,
            )
        except ValidationError as error:
            raise InvalidInput(f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error
        answer = chosen.embed(request)
        if answer.space != (space := space or answer.space):
            raise Unavailable(f"the model was changed meanwhile, from {space} to {answer.space}: run it again")
        vectors = {
            id(one): from_base64(str(vector))
            for group, rows in ((texts, answer.texts), (pictures, answer.images), (assets, answer.asset_ids))
            for one, vector in zip(group, rows, strict=True)
        }
        for one, _ in part:
            yield one, answer.space, vectors[id(one)]


def _requests(asked: Sequence[Input]) -> Iterator[list[tuple[Input, bytes | None]]]:
    """Cut into parts that fit one request, with the pictures read."""
    part: list[tuple[Input, bytes | None]] = []
    size = 0
    for one in asked:
        data = one.read() if one.picture is not None else None
        if part and (len(part) == MAX_EMBEDDED or size + len(data or b"") > _REQUEST_BYTES):
            yield part
            part, size = [], 0
        part.append((one, data))
        size += len(data or b"")
    yield part


def _kind_of(target: Path | None) -> Literal["npy", "jsonl"]:
    suffix = ".jsonl" if target is None else target.suffix.lower()
    if suffix not in (".npy", ".jsonl"):
        raise InvalidInput(f"-o {target}: vectors are written as .npy or .jsonl")
    if target is not None and not target.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {target.absolute().parent} for -o")
    return "npy" if suffix == ".npy" else "jsonl"


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """Write a file that takes the place of another when all of it is there, and else leaves no trace."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(target)
    except OSError as error:
        raise InvalidInput(f"{target}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _jsonl(one: Input, space: str, row: Float32, encoding: Encoding) -> str:
    vector = to_base64(row) if encoding is Encoding.BASE64 else row.tolist()
    return json_text.dumps({"input": one.shown, "space": space, "embedding": vector}, ensure_ascii=False)


def _print_similarity(found: SimilarityResponse, left: Sequence[Input], right: Sequence[Input]) -> None:
    cosines, scores = np.array(found.cosines, np.float32), np.array(found.clip_scores, np.float32)
    output.note(f"in {found.space}")
    output.line("cosine  CLIP score  of")
    places = [(at, at) for at in range(len(left))] if cosines.ndim == 1 else list(np.ndindex(*cosines.shape))
    for row, column in places:
        at = row if cosines.ndim == 1 else (row, column)
        names = f"{output.cut(left[row].shown, _SHOWN)}  |  {output.cut(right[column].shown, _SHOWN)}"
        output.line(f"{cosines[at]:6.3f}  {scores[at]:10.3f}  {names}")
