"""`phosphene doctor`: what this machine and these settings can do, one line for each thing looked at."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from phosphene import __version__
from phosphene.errors import PhospheneError
from phosphene.holder import current_holder
from phosphene.settings import Settings, unknown_names

if TYPE_CHECKING:
    from phosphene.nomatch.decision import Standing
    from phosphene.types import Space

LOW_DISK_BYTES = 2 * 2**30


class Verdict(StrEnum):
    """How a check went; only `fail` makes the command fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    subject: str
    verdict: Verdict
    detail: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at settings, disk, model and stores; a check that fails does not hide the next."""
    yield Finding("phosphene", Verdict.OK, f"{__version__} on Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    for hint in unknown_names():
        yield Finding("settings", Verdict.WARN, hint)
    yield from _data_folder(settings)
    from phosphene.assemble import serving_of
    from phosphene.open_spaces import overruled

    serving = serving_of(settings)
    model = settings.model if serving is None else serving.answers.model
    said = None if serving is None else overruled(settings, serving)
    if said is not None:
        yield Finding("model", Verdict.WARN, said)
    space = _space(model, settings)
    yield _try("model", lambda: _model(model, space))
    yield _generator(settings, space)
    if settings.embedded and current_holder(settings.data) is not None:
        return  # the stores are open in the other process; `phosphene doctor --server` asks it
    for subject, check in _stores(settings):
        yield _try(subject, check)
    yield from _answers(settings)


def _data_folder(settings: Settings) -> Iterator[Finding]:
    if not settings.embedded:
        return
    folder = settings.data.absolute()
    holder = current_holder(folder)
    if holder is not None:
        where = f", which serves at {holder.url}" if holder.url else ""
        yield Finding("data folder", Verdict.OK, f"{folder}, held by `{holder.command}` (pid {holder.pid}){where}")
    else:
        yield Finding("data folder", Verdict.OK, f"{folder}{'' if folder.exists() else ' (made on first use)'}")
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("data folder", Verdict.FAIL, f"{existing} can't be written; set PHOSPHENE_DATA to another folder")
    free = shutil.disk_usage(existing).free
    verdict = Verdict.WARN if free < LOW_DISK_BYTES else Verdict.OK
    yield Finding("disk", verdict, f"{free / 2**30:.1f} GiB free")


def _space(model: str, settings: Settings) -> Space | PhospheneError:
    """Load the model for its space; or give what is wrong with it."""
    from phosphene.encoders import load_encoder

    try:
        return load_encoder(model, device=settings.device, threads=settings.threads).space
    except PhospheneError as error:
        return error


def _model(model: str, space: Space | PhospheneError) -> str:
    if isinstance(space, PhospheneError):
        raise space
    return f"{model}: {space.dimension} dimensions, pictures at {space.pixels.size} px, space {space.id}"


def _generator(settings: Settings, space: Space | PhospheneError) -> Finding:
    """Tell whether pictures can be drawn here, which search does not need.

    The starter's generator is judged by its files, and diffusers by those that it was installed as; other generators
    are loaded.
    """
    from phosphene.unclip.inspection import inspect_starter, require_diffusers
    from phosphene.unclip.loading import load_generator, starter_folder

    try:
        if isinstance(space, PhospheneError):
            raise space
        require_diffusers()
        folder = starter_folder(settings.generator)
        if folder is not None:
            layout, size = "starter", inspect_starter(folder, space=space)
        else:
            card = load_generator(settings.generator, prior=settings.generator_prior, device=settings.device).card
            layout, size = card.layout, card.sizes[0]
    except PhospheneError as error:
        return Finding("generator", Verdict.WARN, f"nothing can be drawn: {error}")
    return Finding("generator", Verdict.OK, f"{settings.generator}: {layout}, draws {size} pixels")


def _stores(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "catalogue and blobs", lambda: _open_stores(settings)
    if settings.qdrant_url is not None:
        yield "vectors", lambda: _open_vectors(settings)
    if settings.broker_url is not None:
        url = settings.broker_url.get_secret_value()
        yield "broker", lambda: _ping_broker(url)
    if settings.blob_url is not None and settings.blob_url.startswith("s3:"):
        yield "s3", lambda: "s3fs is installed" if importlib.util.find_spec("s3fs") else "pip install 'phosphene[s3]'"


def _open_stores(settings: Settings) -> str:
    from phosphene.assemble import open_engine
    from phosphene.types import DEFAULT_TENANT

    with open_engine(settings, command="phosphene doctor") as engine:
        assets = engine.catalog.count_assets(DEFAULT_TENANT)
        key = "doctor/probe"
        engine.blobs.put(key, b"probe")
        engine.blobs.delete(key)
    return f"{assets} assets; blobs can be written"


def _open_vectors(settings: Settings) -> str:
    from phosphene.assemble import open_engine

    with open_engine(settings, command="phosphene doctor") as engine:
        return f"{engine.index.count()} vectors in {engine.index.space.id}"


def _answers(settings: Settings) -> Iterator[Finding]:
    """Tell whether matches are told by calibrations that hold, and whether points carry what they do now."""
    from indexer.verify import outdated
    from phosphene.assemble import open_engine
    from phosphene.types import DEFAULT_TENANT

    try:
        with open_engine(settings, command="phosphene doctor") as engine:
            standing = engine.judge.standing(DEFAULT_TENANT)
            before = outdated(engine)
    except PhospheneError as error:
        yield Finding("matches", Verdict.FAIL, str(error))
        return
    yield _matches(standing)
    if before is not None:
        yield Finding("pictures", Verdict.WARN, before)


def _matches(standing: Sequence[Standing]) -> Finding:
    from phosphene.types import Modality

    fresh = [one.calibration.modality for one in standing if not one.stale]
    stale = [one.calibration.modality for one in standing if one.stale]
    if len(fresh) == len(Modality):
        return Finding("matches", Verdict.OK, f"calibrated for {' and '.join(fresh)} questions")
    missing = [modality for modality in Modality if modality not in fresh and modality not in stale]
    said = [f"stale for {' and '.join(stale)} questions"] if stale else []
    said += [f"not calibrated for {' and '.join(missing)} questions"] if missing else []
    return Finding("matches", Verdict.WARN, f"{'; '.join(said)}: run phosphene calibrate")


def _ping_broker(url: str) -> str:
    from phosphene.jobs import CeleryJobs

    CeleryJobs(url).ping()
    return "answers"


def _try(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, Verdict.OK, check())
    except PhospheneError as error:
        return Finding(subject, Verdict.FAIL, str(error))
