"""The description of the API is complete, and the API does as described, asked at random."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Verbosity, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.search_api.served import Served, ingested_folder, serving, tiny_generator

EXAMPLES = 12
PATIENCE_S = 60  # a busy machine
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = Path(shutil.copytree(ingested_folder(), tmp_path_factory.mktemp("described") / "data"))
    # None may be drawn: what is asked at random takes hours. test_generations.py asks for pictures.
    with serving(folder, generator=str(tiny_generator()), generations_per_day=0) as running:
        yield running


def test_answers_are_as_described(written: Served) -> None:
    """Every operation, asked with what its description allows and with what it does not."""
    api = schemathesis.openapi.from_url(f"{written.url}/openapi.json").exclude(path_regex="/events$")
    api = api.exclude(path="/v1/calibrations", method="POST")  # seconds each: test_calibrations.py asks it
    # Jobs go on in threads, which import modules while hypothesis goes through them: test_jobs.py asks it.
    api = api.exclude(path="/v1/jobs", method="POST")
    operations = [result.ok() for result in api.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) >= 20
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            ask_at_random(operation, mode)


def ask_at_random(operation: Any, mode: GenerationMode) -> None:  # noqa: ANN401  schemathesis' own generics
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:  # noqa: ANN401  the same
        case.call_and_validate(checks=CHECKS, timeout=PATIENCE_S)

    with contextlib.suppress(Unsatisfiable):  # an operation that takes nothing can't be asked wrongly
        ask()


def test_everything_is_described(served: Served) -> None:
    api = served.client.get("/openapi.json").json()
    operations = [(path, method, op) for path, ops in api["paths"].items() for method, op in ops.items()]
    assert len(operations) >= 20
    for path, method, operation in operations:
        assert operation.get("description"), (method, path)
        if path.startswith("/v1/"):
            assert {"400", "401", "403", "405", "413", "422", "503"} <= set(operation["responses"]), (method, path)
        if "{" in path:
            assert "404" in operation["responses"], (method, path)
        for status, answer in operation["responses"].items():
            if path.startswith("/v1/") and int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
    for name, model in api["components"]["schemas"].items():
        assert model.get("description") or name.startswith("Body_"), name
        if name.endswith("Request"):
            assert model["additionalProperties"] is False, name
    assert {"bearer", "api_key", "local_token"} <= set(api["components"]["securitySchemes"])
