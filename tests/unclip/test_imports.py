"""Search starts without the generators: importing them takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("phosphene.cli, phosphene.assemble, search_api.app, workers.celery_app", "diffusers"),
        ("phosphene.unclip.imagine, phosphene.unclip.base, phosphene.unclip.geometry", "torch"),
        ("phosphene.unclip.loading", "diffusers"),
    ],
)
def test_what_is_heavy_is_not_imported_before_it_is_needed(modules: str, absent: str) -> None:
    code = f"import sys, {modules}; sys.exit({absent!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
