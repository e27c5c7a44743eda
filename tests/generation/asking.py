"""Short ways to ask for pictures, and to see what is left in the blob store."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Table, update

from phosphene.assemble import Engine
from phosphene.blobs import GENERATION_INPUTS, GENERATIONS, generation_key
from phosphene.catalog.generation_records import Generation, GenerationState
from phosphene.catalog.models import GenerationRow
from phosphene.generation.asked import AskedPart, GenerationRequest, SamplingChoice
from phosphene.generation.request import request_generation
from phosphene.generation.run import run_generation
from phosphene.jobs import Jobs
from phosphene.types import DEFAULT_TENANT, GenerationId, Pixels

SLOW = SamplingChoice(decoder_steps=1000)  # some seconds, in which something can happen
PATIENCE_S = 240  # a model on a busy machine


def wanted(text: str = "a red bus", **changes: Any) -> GenerationRequest:  # noqa: ANN401  its fields
    return GenerationRequest(**{"parts": (AskedPart(text=text),), "seed": 7, **changes})


def ask(engine: Engine, request: GenerationRequest | None = None, *, jobs: Jobs | None = None) -> Generation:
    return request_generation(request or wanted(), engine=engine, tenant=DEFAULT_TENANT, jobs=jobs)


def look(engine: Engine, id_: GenerationId) -> Generation:
    return engine.catalog.generations.one(DEFAULT_TENANT, id_)


def drawn(engine: Engine, request: GenerationRequest | None = None) -> Generation:
    """Ask and draw; it must work."""
    asked = ask(engine, request)
    run_generation(asked.id, engine=engine)
    made = look(engine, asked.id)
    assert made.state is GenerationState.FINISHED, made.error
    return made


def files(engine: Engine, generation: Generation) -> list[bytes]:
    return [engine.blobs.get(generation_key(generation.id, one.sha256, one.format)) for one in generation.pictures]


def pixels_of(data: bytes) -> Pixels:
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def left(engine: Engine) -> list[str]:
    """List everything that generations have in the blob store."""
    return [*engine.blobs.keys(GENERATIONS), *engine.blobs.keys(GENERATION_INPUTS)]


def picture(seed: int = 0) -> bytes:
    """Make a picture to upload."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(coarse).resize((64, 48)).save(out, "PNG")
    return out.getvalue()


def rewrite(engine: Engine, id_: GenerationId, **columns: object) -> None:
    """Change a row behind everyone's back."""
    table = GenerationRow.__table__
    assert isinstance(table, Table)
    with engine.catalog._database.writing() as connection:
        connection.execute(update(table).where(table.c.id == id_).values(**columns))


def eventually(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"never happened: {what}", pytrace=False)
        time.sleep(0.05)


def no_weasels(prompts: tuple[str, ...]) -> str | None:
    """Refuse, as a deployment's moderation hook does."""
    return "no weasels" if any("weasel" in prompt for prompt in prompts) else None
