"""What the starter's generator would be, told by its files, and whether diffusers is fit to load it.

Loading it means importing 1,400 modules, 1.4 s of processor time on 2 cores, for one line of `phosphene doctor`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from phosphene.errors import ModelError, SpaceMismatch
from phosphene.model_imports import light_imports
from phosphene.types import Space
from phosphene.unclip.base import Size
from phosphene.unclip.components import OF_DIFFUSERS, SCHEDULER_CONFIG, checked_weights, read_json, sample_size_in
from phosphene.unclip.starter_config import read_config, require_space

_NETWORKS = {"prior": "PriorTransformer", "decoder": "UNet2DConditionModel", "super_resolution": "UNet2DModel"}


def inspect_starter(folder: Path, *, space: Space) -> Size:
    """Look through a folder of the starter layout: the size of its pictures.

    Raises ModelError, UnsafeWeights, and SpaceMismatch where it does not draw in `space`. Whether the weights in whole
    files are those of the networks is found out when they are loaded.
    """
    config = read_config(folder)
    require_space(folder, config, space)
    networks = {part: _network(folder / part, kind) for part, kind in _NETWORKS.items()}
    for part in _NETWORKS:
        read_json(folder / f"{part}_scheduler" / SCHEDULER_CONFIG)
    if networks["prior"].get("embedding_dim") != space.dimension:
        dimension = networks["prior"].get("embedding_dim")
        raise SpaceMismatch(f"{folder} is of {dimension} dimensions, its space of {space.dimension}")
    sample_size_in(networks["decoder"], folder / "decoder")
    side = sample_size_in(networks["super_resolution"], folder / "super_resolution") * config.super_resolution_fold
    return Size(side, side)


def _network(folder: Path, kind: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    config = read_json(folder / "config.json")
    if config.get("_class_name") != kind:
        raise ModelError(f"{folder} holds a {config.get('_class_name')}, where a {kind} is needed")
    weights = checked_weights(folder, OF_DIFFUSERS)
    if weights.suffix == ".safetensors":
        try:
            with safe_open(weights, framework="np"):
                return config
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{weights} can't be read: {error}") from error
    return config


def require_diffusers() -> None:
    """See that diffusers is installed whole: all of its files as they were packed, and what it asks for at its start.

    Its networks are not imported. Raises ModelError with the first thing that is wrong.
    """
    try:
        installed = distribution("diffusers")
    except PackageNotFoundError as error:
        raise ModelError("diffusers is not installed") from error
    for file in installed.files or ():
        if file.size is None or file.parts[0] != "diffusers":  # made here, or of its command, which is not used
            continue
        path = Path(str(file.locate()))
        if not path.is_file():
            raise ModelError(f"diffusers {installed.version} is damaged: {path} is missing; install it again")
        if path.stat().st_size != file.size:
            raise ModelError(f"diffusers {installed.version} is damaged: {path} was changed; install it again")
    try:
        with light_imports():
            importlib.import_module("diffusers")
    except Exception as error:  # whatever its own checks, and what they import, raise
        raise ModelError(f"diffusers {installed.version} can't be imported: {error}") from error
