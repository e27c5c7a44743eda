"""The options of lists as query parameters and as fields of forms: read off the schema of those that come as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Depends, Form, Query

from search_api.facets import MAX_FACETS
from search_api.schemas.lists import FieldName, ListOptions


def _read_from(marker: Callable[..., Any]) -> Callable[..., ListOptions]:
    """Make a dependency that takes each option as a parameter of its own."""

    def read(**given: Any) -> ListOptions:  # noqa: ANN401  each was checked by its own annotation
        return ListOptions(**given)

    read.__signature__ = Signature(list(_parameters(marker)))  # type: ignore[attr-defined]  # what FastAPI reads
    return read


def _parameters(marker: Callable[..., Any]) -> Iterator[Parameter]:
    for name, field in ListOptions.model_fields.items():
        kind, default, bounds = field.annotation, field.default, field.metadata
        if name == "facets":  # by name; how many values of each is for JSON to say
            kind, default, bounds = list[FieldName], [], [marker(max_length=MAX_FACETS, description=field.description)]
        else:
            bounds = [*bounds, marker(description=field.description)]
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, *bounds])


ListQuery = Annotated[ListOptions, Depends(_read_from(Query))]
ListForm = Annotated[ListOptions, Depends(_read_from(Form))]
