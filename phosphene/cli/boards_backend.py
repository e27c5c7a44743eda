"""Where `phosphene collections` is carried out: on stores of this process, or by a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, ValidationError

from phosphene.errors import Unavailable
from search_api.boards import Boards
from search_api.schemas import (
    CollectionChange,
    CollectionList,
    CollectionOut,
    CollectionRequest,
    ExportFormat,
    ItemPage,
    ItemsChanged,
    ItemsRequest,
    MoreOut,
    MoveRequest,
    NoteRequest,
    OutliersOut,
    RemoveRequest,
    ShareList,
    ShareOut,
    ShareRequest,
)

Answer = TypeVar("Answer", bound=BaseModel)


class BoardsBackend(Protocol):
    """What these commands need, here or over HTTP."""

    def create(self, body: CollectionRequest) -> CollectionOut: ...  # noqa: D102  as search_api.boards.Boards has it
    def latest(self, *, before: UUID | None = None, limit: int = 24) -> CollectionList: ...  # noqa: D102
    def read(self, board: UUID) -> CollectionOut: ...  # noqa: D102
    def change(self, board: UUID, body: CollectionChange) -> CollectionOut: ...  # noqa: D102
    def delete(self, board: UUID) -> None: ...  # noqa: D102
    def items(self, board: UUID, *, after: UUID | None = None, limit: int = 100) -> ItemPage: ...  # noqa: D102
    def add(self, board: UUID, body: ItemsRequest) -> ItemsChanged: ...  # noqa: D102
    def move(self, board: UUID, body: MoveRequest) -> CollectionOut: ...  # noqa: D102
    def remove(self, board: UUID, pictures: Sequence[UUID]) -> ItemsChanged: ...  # noqa: D102
    def note(self, board: UUID, picture: UUID, note: str) -> CollectionOut: ...  # noqa: D102
    def share(self, board: UUID, body: ShareRequest) -> ShareOut: ...  # noqa: D102
    def shares(self, board: UUID) -> ShareList: ...  # noqa: D102
    def revoke(self, board: UUID, share: UUID) -> None: ...  # noqa: D102
    def more(self, board: UUID, *, limit: int = 24, cursor: str | None = None) -> MoreOut: ...  # noqa: D102
    def outliers(self, board: UUID, *, limit: int = 10) -> OutliersOut: ...  # noqa: D102

    def exported(self, board: UUID, kind: ExportFormat, *, page: int) -> tuple[bytes, dict[str, str]]:
        """Give the file, and what was said of it, by lower-case name."""
        ...


class LocalBoards(Boards):
    """The boards of a tenant, in this process."""

    def exported(self, board: UUID, kind: ExportFormat, *, page: int) -> tuple[bytes, dict[str, str]]:
        """Make the file."""
        from search_api.exports import export  # with Pillow

        made = export(board, kind, page=page, engine=self._engine, tenant=self._tenant)
        return b"".join(made.parts), {name.lower(): value for name, value in made.headers.items()}


class RemoteBoards:
    """The boards of a server. `ask` sends a request: method, path and body; it gives the answer's body and headers."""

    def __init__(self, ask: Callable[[str, str, BaseModel | None], tuple[bytes, Mapping[str, str]]]) -> None:
        self._ask = ask

    def create(self, body: CollectionRequest) -> CollectionOut:
        """Make a board."""
        return self._answer("POST", "", body, CollectionOut)

    def latest(self, *, before: UUID | None = None, limit: int = 24) -> CollectionList:
        """List boards, the newest first."""
        return self._answer("GET", query_of(before=before, limit=limit), None, CollectionList)

    def read(self, board: UUID) -> CollectionOut:
        """Give what is known of a board, its pictures apart."""
        return self._answer("GET", f"/{board}", None, CollectionOut)

    def change(self, board: UUID, body: CollectionChange) -> CollectionOut:
        """Set name or notes."""
        return self._answer("PATCH", f"/{board}", body, CollectionOut)

    def delete(self, board: UUID) -> None:
        """Take a board away."""
        self._ask("DELETE", f"/v1/collections/{board}", None)

    def items(self, board: UUID, *, after: UUID | None = None, limit: int = 100) -> ItemPage:
        """Give some of a board's pictures, in its order."""
        return self._answer("GET", f"/{board}/items{query_of(after=after, limit=limit)}", None, ItemPage)

    def add(self, board: UUID, body: ItemsRequest) -> ItemsChanged:
        """Put pictures on a board."""
        return self._answer("POST", f"/{board}/items", body, ItemsChanged)

    def move(self, board: UUID, body: MoveRequest) -> CollectionOut:
        """Put pictures of a board elsewhere in its order."""
        return self._answer("POST", f"/{board}/items/move", body, CollectionOut)

    def remove(self, board: UUID, pictures: Sequence[UUID]) -> ItemsChanged:
        """Take pictures off a board."""
        return self._answer("POST", f"/{board}/items/remove", RemoveRequest(asset_ids=list(pictures)), ItemsChanged)

    def note(self, board: UUID, picture: UUID, note: str) -> CollectionOut:
        """Say something about a picture on a board."""
        return self._answer("PATCH", f"/{board}/items/{picture}", NoteRequest(note=note), CollectionOut)

    def share(self, board: UUID, body: ShareRequest) -> ShareOut:
        """Make a link."""
        return self._answer("POST", f"/{board}/shares", body, ShareOut)

    def shares(self, board: UUID) -> ShareList:
        """List the links of a board."""
        return self._answer("GET", f"/{board}/shares", None, ShareList)

    def revoke(self, board: UUID, share: UUID) -> None:
        """Close a link."""
        self._ask("DELETE", f"/v1/collections/{board}/shares/{share}", None)

    def more(self, board: UUID, *, limit: int = 24, cursor: str | None = None) -> MoreOut:
        """Find pictures that fit."""
        return self._answer("GET", f"/{board}/more{query_of(limit=limit, cursor=cursor)}", None, MoreOut)

    def outliers(self, board: UUID, *, limit: int = 10) -> OutliersOut:
        """Find pictures that don't."""
        return self._answer("GET", f"/{board}/outliers{query_of(limit=limit)}", None, OutliersOut)

    def exported(self, board: UUID, kind: ExportFormat, *, page: int) -> tuple[bytes, dict[str, str]]:
        """Fetch the file."""
        query = query_of(format=kind.value, page=page)
        content, headers = self._ask("GET", f"/v1/collections/{board}/export{query}", None)
        return content, {name.lower(): value for name, value in headers.items()}

    def _answer(self, method: str, path: str, body: BaseModel | None, kind: type[Answer]) -> Answer:
        content, _ = self._ask(method, f"/v1/collections{path}", body)
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise Unavailable("the server answers, but not as Phosphene of this version does") from error


def query_of(**said: object) -> str:
    """Write a query string of what is not None."""
    parts = "&".join(f"{name}={quote(str(value))}" for name, value in said.items() if value is not None)
    return f"?{parts}" if parts else ""
