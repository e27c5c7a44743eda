"""Models, tokenizers and their names as open_clip makes them: the one file that imports it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene.errors import ModelError, ModelNotFound
from phosphene.model_files import ModelFiles, cached_file, hub_reachable
from phosphene.model_imports import light_imports
from phosphene.types import PixelSpec

if TYPE_CHECKING:
    import torch


class OpenClipArchitectures:
    """What open_clip knows by name; imports it when first asked."""

    def config(self, name: str) -> dict[str, Any] | None:
        """Give an architecture's configuration, None if there is none of that name."""
        found: dict[str, Any] | None = import_open_clip().factory.get_model_config(name)
        return found

    def tag(self, name: str, tag: str) -> Mapping[str, Any] | None:
        """Give what is known of pretrained weights, None if unknown."""
        found: dict[str, Any] = import_open_clip().pretrained.get_pretrained_cfg(name, tag)
        return found or None

    def names(self) -> Sequence[str]:
        """Name everything of the form architecture/tag."""
        return ["/".join(pair) for pair in import_open_clip().list_pretrained()]


def import_open_clip() -> Any:  # noqa: ANN401  # a module without type information
    """Import open_clip, which takes seconds the first time."""
    with light_imports():
        return importlib.import_module("open_clip")


def build(files: ModelFiles) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Make the model and fill it from its safetensors file, as open_clip.create_model does for one of its own.

    Raises ModelNotFound and ModelError.
    """
    open_clip = import_open_clip()
    config = deepcopy(files.model_cfg)
    has_hf_tower = "hf_model_name" in config["text_cfg"]
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False  # the checkpoint has it all
    if has_hf_tower:
        config["text_cfg"]["hf_model_pretrained"] = False
    custom_text = config.pop("custom_text", False) or has_hf_tower
    kind = open_clip.CLIP
    if custom_text:
        kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    try:
        with _skip_random_weights():
            model = kind(**config)
        open_clip.load_checkpoint(model, str(files.weights), strict=True, device="cpu")
    except OSError as error:
        raise ModelNotFound(f"{files.name} needs a file that is not here: {first_line(error)}") from error
    except Exception as error:  # anything may be wrong with a configuration or weights made elsewhere
        raise ModelError(f"{files.name} can't be loaded from {files.weights}: {first_line(error)}") from error
    preprocess = open_clip.transform.merge_preprocess_dict(
        asdict(open_clip.transform.PreprocessCfg()), files.preprocess_cfg
    )
    preprocess["size"] = getattr(model.visual, "image_size", preprocess["size"])
    return model, preprocess


def _skip_random_weights() -> AbstractContextManager[object]:
    """Leave new weights as they are: random numbers for a ViT-B/32 take longer than reading the real ones."""
    import torch  # here already
    from torch.overrides import TorchFunctionMode

    random = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}

    class Skip(TorchFunctionMode):
        """Holds in this thread only."""

        def __torch_function__(
            self,
            function: Callable[..., Any],
            types: object,  # torch passes it
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> Any:  # noqa: ANN401  # whatever the function gives
            return args[0] if function in random else function(*args, **(kwargs or {}))

    return Skip()


def pixel_spec(preprocess: Mapping[str, Any], name: str) -> PixelSpec:
    """Read how a model takes its pictures. Raises ModelError where they are not square."""
    size = preprocess["size"]
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(set(sides)) != 1:
        raise ModelError(f"{name} takes pictures of {sides[1]} x {sides[0]} pixels; only square ones can be made")
    red_mean, green_mean, blue_mean = _three(preprocess["mean"])
    red_std, green_std, blue_std = _three(preprocess["std"])
    return PixelSpec(
        size=int(sides[0]),
        resize=preprocess["resize_mode"],
        interpolation="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",  # as open_clip reads it
        fill=int(preprocess["fill_color"]),
        mean=(red_mean, green_mean, blue_mean),
        std=(red_std, green_std, blue_std),
    )


def _three(value: float | Sequence[float]) -> tuple[float, ...]:
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(each) for each in value)


def tokenizer_of(files: ModelFiles, *, cache_dir: Path | None) -> Callable[[list[str]], torch.Tensor]:
    """Make what turns texts into tokens, (n, context length) int64. Raises ModelNotFound."""
    open_clip = import_open_clip()
    text_cfg = files.model_cfg["text_cfg"]
    options = {
        "context_length": text_cfg.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
        **text_cfg.get("tokenizer_kwargs", {}),
    }
    if files.tokenizer is None:
        made: Callable[[list[str]], torch.Tensor] = open_clip.SimpleTokenizer(**options)
        return made
    for from_disk in (True, False):
        if not from_disk and (Path(files.tokenizer).is_dir() or not hub_reachable()):
            break
        try:
            made = open_clip.tokenizer.HFTokenizer(
                files.tokenizer,
                cache_dir=str(cache_dir) if cache_dir else None,
                tokenizer_mode=text_cfg.get("tokenizer_mode"),
                local_files_only=from_disk,
                **options,
            )
        except (OSError, ValueError, KeyError) as error:  # transformers' ways to say that it is not there
            reason = first_line(error)
        else:
            return made
    raise ModelNotFound(
        f"the tokenizer of {files.name} ({files.tokenizer}) is not here: copy its tokenizer.json and "
        f"tokenizer_config.json next to {files.weights.name} ({reason})"
    )


def require_text_tower(files: ModelFiles, *, cache_dir: Path | None) -> None:
    """See that a text tower's configuration can be had; transformers would try for half a minute.

    Raises ModelNotFound.
    """
    tower = files.model_cfg["text_cfg"]["hf_model_name"]
    here = Path(tower).is_dir() or cached_file(tower, "config.json", cache_dir=cache_dir) is not None
    if not here and not hub_reachable():
        raise ModelNotFound(
            f"{files.name} has a text tower of {tower}, whose configuration is not cached, and the Hugging Face hub "
            f"can't be reached: copy its config.json next to {files.weights.name}"
        )


def first_line(error: BaseException) -> str:
    """Give the first line of a message that says something."""
    return next(_lines(str(error)), type(error).__name__)


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())
