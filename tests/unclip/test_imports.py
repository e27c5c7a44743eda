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
        ("phosphene.unclip.inspection", "torch"),
    ],
)
def test_what_is_heavy_is_not_imported_before_it_is_needed(modules: str, absent: str) -> None:
    code = f"import sys, {modules}; sys.exit({absent!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_networks_come_without_transformers_and_the_pipelines_with_them_afterwards() -> None:
    code = """if True:
        import sys
        from phosphene.model_imports import restore_diffusers
        from phosphene.unclip import starter_layout
        assert "transformers" not in sys.modules
        restore_diffusers()
        from phosphene.unclip import kandinsky, stable_unclip
        assert kandinsky.KandinskyV22Pipeline.__module__.startswith("diffusers.pipelines.kandinsky")
        assert stable_unclip.StableUnCLIPImg2ImgPipeline.__module__.startswith("diffusers.pipelines.stable")
        starter_layout.prior_schedule()
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_networks_come_also_where_transformers_is_begun() -> None:
    subprocess.run([sys.executable, "-c", "import transformers, phosphene.unclip.starter_layout"], check=True)
