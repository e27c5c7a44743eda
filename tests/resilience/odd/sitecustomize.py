"""Makes a Python process odd as ODD_… says: whoever has this folder on PYTHONPATH imports it at its start.

So the real commands run, and die or dawdle where a test wants them to. Where nothing is said, nothing is changed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

Patch = Callable[[Any], None]


def _note(what: str) -> None:
    """Write a line where the test reads it."""
    with Path(os.environ["ODD_NOTES"]).open("a") as notes:
        notes.write(f"{what}\n")
        notes.flush()
        os.fsync(notes.fileno())


def _die(what: str) -> None:
    _note(what)
    os.kill(os.getpid(), signal.SIGKILL)


def _dies(step: str, inner: Callable[..., Any], *, of: str = "") -> Callable[..., Any]:
    """Die before or after a step, where ODD_DIES names it: "before blobs 2" is the second time.

    `of`: only calls count that have this among their arguments.
    """
    times = 0

    def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  of any function
        nonlocal times
        times += not of or of in map(str, arguments)
        now = f"{step} {times}"
        if os.environ.get("ODD_DIES") == f"before {now}":
            _die(f"before {now}")
        answer = inner(*arguments, **named)
        if os.environ.get("ODD_DIES") == f"after {now}":
            _die(f"after {now}")
        return answer

    return call


def _blobs(module: Any) -> None:  # noqa: ANN401  a module
    module.BlobStore.put_many = _dies("blobs", module.BlobStore.put_many)


def _catalog(module: Any) -> None:  # noqa: ANN401  a module
    module.Catalog.register = _dies("row", module.Catalog.register)
    module.Catalog.mark_indexed = _dies("commit", module.Catalog.mark_indexed)


def _jobs(module: Any) -> None:  # noqa: ANN401  a module
    module.CeleryJobs.send = _dies("publish", module.CeleryJobs.send, of="phosphene.embed.online")
    if "ODD_VISIBILITY_S" in os.environ:
        options = module._transport_options

        def impatient(scheme: str) -> dict[str, Any]:
            # Looked after each second: every hundredth is what Redis workers do by themselves.
            looks = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
            return {**options(scheme), **looks, "visibility_timeout": float(os.environ["ODD_VISIBILITY_S"])}

        module._transport_options = impatient


def _celery_app(module: Any) -> None:  # noqa: ANN401  a module
    make = module.worker_app

    def odd_app(settings: Any) -> Any:  # noqa: ANN401  a Celery app
        app = make(settings)
        if "ODD_HEARTBEAT_S" in os.environ:
            app.conf.broker_heartbeat = float(os.environ["ODD_HEARTBEAT_S"])
        return app

    module.worker_app = odd_app
    module.STOP_S = float(os.environ.get("ODD_STOP_S", module.STOP_S))


def _embedding(module: Any) -> None:  # noqa: ANN401  a module
    encode = module.encode_tolerantly

    def odd(encoder: Any, pixels: Any) -> Any:  # noqa: ANN401  its signature
        _note(f"encoding {len(pixels)}")
        if "ODD_DEADLY" in os.environ and (pixels == pixels[:, :1, :1]).all(axis=(1, 2, 3)).any():
            _note("deadly")  # a picture of one colour
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        while "ODD_HANGS_WHILE" in os.environ and Path(os.environ["ODD_HANGS_WHILE"]).exists():
            time.sleep(0.1)
        each_s = float(os.environ.get("ODD_SLOW_EACH_S", "0"))
        time.sleep(float(os.environ.get("ODD_SLOW_S", "0")) + each_s * len(pixels))
        return encode(encoder, pixels)

    module.encode_tolerantly = odd


_PATCHES: dict[str, Patch] = {
    "phosphene.blobs": _blobs,
    "phosphene.catalog.catalog": _catalog,
    "phosphene.jobs": _jobs,
    "workers.celery_app": _celery_app,
    "indexer.embedding": _embedding,
}


class _Patching(importlib.abc.MetaPathFinder):
    """Patches modules as they are imported, so that no process imports what it would not."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002  its signature
        target: ModuleType | None = None,  # noqa: ARG002  its signature
    ) -> importlib.machinery.ModuleSpec | None:
        patch = _PATCHES.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def patched(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = patched  # type: ignore[method-assign]  # of this module's loader only
        return spec


if "ODD_NOTES" in os.environ:
    sys.meta_path.insert(0, _Patching())
