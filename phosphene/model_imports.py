"""Importing open_clip in a quarter of the time, and diffusers in a third.

A plain `import open_clip` takes 2.5 s of processor time beyond torch's own (measured on 2 cores), of which 1.9 s go to
transformers, needed for text towers and tokenizers from the Hugging Face hub only, and to torch's compiler, which
torchvision and timm import to mark functions that it should leave alone. We compile nothing. So both are kept out
while open_clip is imported, unless they are there already; afterwards everything can be imported as usual. So it is
with the networks of diffusers, of which only the pipelines of published models need transformers: 4 s become 1.5 s.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_LOCK = threading.Lock()


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: modules are none, and going through them again and again is a fifth of a start."""
    collecting, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()  # nor does any later round
        if collecting:
            gc.enable()


@contextmanager
def light_imports() -> Iterator[None]:
    """Keep transformers and torch's compiler out of what is imported inside."""
    with uncollected():
        import torch  # noqa: F401  # seconds; and it must be whole before its parts are stood in for

    with _LOCK, uncollected():
        placed: list[str] = []
        whole = "transformers" in sys.modules  # parts of it, imported later on, ask for the whole compiler
        if not whole:
            sys.modules["transformers"] = None  # type: ignore[assignment]  # the import system: "can't be imported"
            placed.append("transformers")
        if not whole and "torch._dynamo" not in sys.modules:
            for name, module in _without_compiler().items():
                sys.modules[name] = module
                placed.append(name)
        try:
            yield
        finally:
            for name in placed:
                del sys.modules[name]


def _without_compiler() -> dict[str, ModuleType]:
    """Stand in for the few names of torch's compiler that are used while modules are defined."""
    compiler, tools = ModuleType("torch._dynamo"), ModuleType("torch._dynamo.utils")

    def disable(function: Callable[..., Any] | None = None, *_: object, **__: object) -> Any:  # noqa: ANN401
        return function if function is not None else lambda decorated: decorated

    def never(*_: object) -> bool:
        return False

    vars(compiler).update(disable=disable, is_compiling=never, utils=tools, __path__=[])
    vars(tools).update(is_compile_supported=never)
    return {"torch._dynamo": compiler, "torch._dynamo.utils": tools}


def restore_transformers() -> None:
    """Give open_clip the transformers that `light_imports` kept from it: for text towers of the Hugging Face kind."""
    with _LOCK:
        towers = importlib.import_module("open_clip.hf_model")
        if towers.transformers is None:
            importlib.import_module("transformers")
            importlib.reload(towers)
            model = importlib.import_module("open_clip.model")
            vars(model)["HFTextEncoder"] = towers.HFTextEncoder


def restore_diffusers() -> None:
    """Forget a diffusers that `light_imports` kept transformers from, so that its pipelines can be imported.

    Who has networks of the former keeps them.
    """
    with _LOCK:
        known = sys.modules.get("diffusers.utils.import_utils")
        if known is not None and not known.is_transformers_available():
            for name in [name for name in sys.modules if name.split(".")[0] == "diffusers"]:
                del sys.modules[name]
