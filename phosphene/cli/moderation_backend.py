"""Where `phosphene moderation` is carried out: on stores of this process, or by a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol
from uuid import UUID

from pydantic import BaseModel, ValidationError

from phosphene.cli.boards_backend import Answer
from phosphene.errors import Unavailable
from search_api.schemas.moderation import (
    DecisionRequest,
    ModeratedOut,
    ModerationList,
    PolicyBody,
    ScanOut,
    ScanRequest,
    State,
)


class ModerationBackend(Protocol):
    """What these commands need: here search_api.moderating.Moderation, or over HTTP."""

    def policy(self) -> PolicyBody: ...  # noqa: D102  as search_api.moderating.Moderation has it
    def set_policy(self, body: PolicyBody) -> PolicyBody: ...  # noqa: D102
    def scan(self, body: ScanRequest) -> ScanOut: ...  # noqa: D102
    def listed(self, state: State) -> ModerationList: ...  # noqa: D102
    def decide(self, asset: UUID, body: DecisionRequest) -> ModeratedOut: ...  # noqa: D102


class RemoteModeration:
    """The review queue of a server. `ask` sends a request: method, path and body; it gives body and headers."""

    def __init__(self, ask: Callable[[str, str, BaseModel | None], tuple[bytes, Mapping[str, str]]]) -> None:
        self._ask = ask

    def policy(self) -> PolicyBody:
        """Say what is flagged."""
        return self._answer("GET", "/policy", None, PolicyBody)

    def set_policy(self, body: PolicyBody) -> PolicyBody:
        """Flag this from now on."""
        return self._answer("PUT", "/policy", body, PolicyBody)

    def scan(self, body: ScanRequest) -> ScanOut:
        """Let the server look at all pictures; takes as long as it takes."""
        return self._answer("POST", "/scan", body, ScanOut)

    def listed(self, state: State) -> ModerationList:
        """List pictures in a state."""
        return self._answer("GET", f"?state={state}", None, ModerationList)

    def decide(self, asset: UUID, body: DecisionRequest) -> ModeratedOut:
        """Tell the server what was decided."""
        return self._answer("POST", f"/{asset}", body, ModeratedOut)

    def _answer(self, method: str, path: str, body: BaseModel | None, kind: type[Answer]) -> Answer:
        content, _ = self._ask(method, f"/v1/moderation{path}", body)
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise Unavailable("the server answers, but not as Phosphene of this version does") from error
