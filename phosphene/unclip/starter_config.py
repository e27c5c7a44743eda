"""unclip.json of a folder of the starter layout (`phosphene.unclip.starter_layout`); importing this is cheap."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phosphene.errors import InvalidInput, ModelError, SpaceMismatch
from phosphene.types import Space
from phosphene.unclip.base import Sampling

CONFIG_NAME = "unclip.json"
FORMAT: Literal["phosphene-unclip-1"] = "phosphene-unclip-1"


class StarterConfig(BaseModel):
    """What unclip.json says beyond the networks' own configurations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["phosphene-unclip-1"] = FORMAT
    space: str = Field(description="id of the CLIP space, as phosphene.types.Space gives it")
    model: str = Field(default="starter", description="what PHOSPHENE_MODEL calls the CLIP model of that space")
    decoder_fold: int = Field(default=2, ge=1, description="pixels a side that one cell of the decoder stands for")
    super_resolution_fold: int = Field(default=2, ge=1, description="the same for super-resolution")
    sampling: Sampling = Sampling()


def read_config(folder: Path) -> StarterConfig:
    """Read a folder's unclip.json. Raises ModelError."""
    path = folder / CONFIG_NAME
    try:
        return StarterConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}") from error
    except InvalidInput as error:  # of Sampling
        raise ModelError(f"{path}: {error}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        what = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in what["loc"])
        raise ModelError(f"{path} is no unCLIP configuration of ours: {where} {what['msg']}".strip()) from error


def require_space(folder: Path, config: StarterConfig, space: Space) -> None:
    """Raise SpaceMismatch unless a folder was trained in `space`."""
    if space.id != config.space:
        raise SpaceMismatch(
            f"{folder} was trained in the space {config.space} ({config.model}), but the encoder given is "
            f"{space.model} ({space.id})"
        )
