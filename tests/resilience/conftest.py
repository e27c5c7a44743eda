"""What tests of killed and broken parts share: chance with a seed that is told, and figures that are printed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

Figure = Callable[[str], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Figure:
    """Print a figure, here and in the summary of the run."""

    def tell(text: str) -> None:
        print(text)  # noqa: T201
        record_property("figure", f"{request.node.name}: {text}")

    return tell


@pytest.fixture
def chance(figure: Figure) -> random.Random:
    """Give chance; PHOSPHENE_RESILIENCE_SEED repeats what a run has done."""
    seed = int(os.environ.get("PHOSPHENE_RESILIENCE_SEED") or random.SystemRandom().randrange(2**32))
    figure(f"seed {seed}")
    return random.Random(seed)
