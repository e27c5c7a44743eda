"""The table from the error tree to HTTP."""

from __future__ import annotations

import json

import pytest

from phosphene import errors
from search_api import problems


def every_kind(kind: type[errors.PhospheneError] = errors.PhospheneError) -> set[type[errors.PhospheneError]]:
    return {kind}.union(*(every_kind(child) for child in kind.__subclasses__()))


def test_every_error_has_a_row() -> None:
    """An error without one would be told to callers as a fault of ours."""
    ours = {kind for kind in every_kind() if kind.__module__ == errors.__name__} - {errors.PhospheneError}
    rows = tuple(kind for kind, _ in problems.STATUS_OF)
    assert {kind.__name__ for kind in ours if not issubclass(kind, rows)} == set()


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidQuery("the text is empty"), 422, "invalid-query"),
        (errors.PictureError(errors.PictureFault.EMPTY, "0 bytes"), 422, "picture-error"),
        (errors.NotFound("no asset 7"), 404, "not-found"),
        (errors.Forbidden("no key"), 403, "forbidden"),
        (errors.Overloaded("the queue is full", retry_after_s=30), 429, "overloaded"),
        (errors.Unavailable("no broker"), 503, "unavailable"),
        (errors.ModelNotFound("not cached"), 503, "model-not-found"),
        (errors.DataFolderInUse("held by 12"), 503, "data-folder-in-use"),
        (errors.Cancelled("the generation was cancelled"), 409, "cancelled"),
        (errors.DamagedData("a hash differs"), 500, "damaged-data"),
    ],
)
def test_an_error_is_told_with_its_status_and_a_name(error: errors.PhospheneError, status: int, kind: str) -> None:
    response = problems.of_error(error, instance="/v1/search")
    told = json.loads(bytes(response.body))
    assert response.status_code == told["status"] == status
    assert told["type"] == f"urn:phosphene:problem:{kind}"
    assert told["detail"] == str(error)
    assert ("retry-after" in response.headers) == (status in {429, 503})


def test_every_status_of_the_table_can_be_documented() -> None:
    statuses = {status for _, status in problems.STATUS_OF} - {500}
    assert statuses <= set(problems.responses(*statuses))
