"""Functions of a deployment's own, which settings name as "module:function"."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from phosphene.errors import InvalidSettings


def load_hook(name: str, *, setting: str) -> Callable[..., Any]:
    """Import a function. Raises InvalidSettings, which names the setting and what is wrong with it."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise InvalidSettings(f"{setting} is module:function, not {name!r}")
    try:
        hook = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the module does when it is imported
        raise InvalidSettings(f"{setting} {name} can't be imported: {type(error).__name__}: {error}") from error
    if not callable(hook):
        raise InvalidSettings(f"{setting} {name} is a {type(hook).__name__}, not a function")
    return hook  # type: ignore[no-any-return]  # what it answers is checked each time
