"""The parts of a published model, from its folder: safetensors only, and nothing is downloaded or run from it.

A model is a local folder, or a repository of the Hugging Face hub that is in the local cache already.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from phosphene.errors import ModelError, ModelNotFound, UnsafeWeights
from phosphene.model_files import cached_file, require_safetensors
from phosphene.types import Sha256
from phosphene.unclip.base import MAX_SIDE, GeneratorCard

Untyped = Any  # an object of diffusers or transformers, which publish no types for it

MODEL_INDEX = "model_index.json"
SCHEDULER_CONFIG = "scheduler_config.json"
OF_DIFFUSERS = "diffusion_pytorch_model"  # as it calls weights
OF_TRANSFORMERS = "model"
# The names of one choice of weights. diffusers takes the index first, transformers the single file.
_VARIANTS = (
    ("{}.safetensors", "{}.safetensors.index.json"),
    (
        "{}.fp16.safetensors",
        "{}.safetensors.index.fp16.json",
        "{}.safetensors.fp16.index.json",  # older forms, which diffusers still reads
        "{}.fp16.safetensors.index.json",
    ),
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HASH_CHUNK = 1 << 20


def find_folder(model: str, *, cache_dir: Path | None = None) -> Path:
    """Find a model by its folder or its hub name. Raises ModelNotFound, which says how to get it."""
    model = model.strip()
    path = Path(model).expanduser()
    if model and path.is_dir():
        return path
    if model.count("/") == 1 and not model.startswith((".", "~", "/")):
        index = cached_file(model, MODEL_INDEX, cache_dir=cache_dir)
        if index is not None:
            return index.parent
        from huggingface_hub import constants

        raise ModelNotFound(
            f"the model {model} is not cached in {cache_dir or constants.HF_HUB_CACHE}, and generators are not "
            f"downloaded by themselves (several GB). Where there is network: `hf download {model} --include "
            f'"*.json" "*.txt" "*.safetensors"`; or give the path of a folder that holds it'
        )
    raise ModelNotFound(f"no folder {model!r}: a generator is a folder, or a name on the Hugging Face hub (org/name)")


def load_component(kind: Untyped, folder: Path, *, device: str = "cpu") -> Untyped:
    """Load one network from its sub-folder, in evaluation mode, without gradients.

    kind is the diffusers or transformers class. float32 on a CPU, float16 else. Raises ModelError where anything is
    missing or unfitting (never random weights in its place), UnsafeWeights where there is a pickle only.
    """
    import torch

    config = read_json(folder / "config.json")
    named = config.get("_class_name") or kind.__name__
    if named != kind.__name__:
        raise ModelError(f"{folder} holds a {named}, where a {kind.__name__} is needed")
    if "transformers_weights" in config:  # transformers would read that file in place of those that are checked here
        raise ModelError(f"{folder / 'config.json'} chooses its weights by transformers_weights: take that line out")
    of_diffusers = kind.__module__.startswith("diffusers.")
    weights = checked_weights(folder, OF_DIFFUSERS if of_diffusers else OF_TRANSFORMERS)
    options: dict[str, Any] = {"low_cpu_mem_usage": False} if of_diffusers else {}  # True needs one package more
    try:
        model, report = kind.from_pretrained(
            str(folder),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            variant="fp16" if ".fp16." in weights.name else None,
            **{"torch_dtype" if of_diffusers else "dtype": torch.float32 if device == "cpu" else torch.float16},
            **options,
        )
    except Exception as error:  # anything may be wrong with files made elsewhere
        raise ModelError(f"{folder} can't be loaded as {kind.__name__}: {first_line(error)}") from error
    absent = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if absent:
        raise ModelError(f"{folder} lacks weights of {kind.__name__}: {', '.join(absent[:3])} ({len(absent)} in all)")
    return model.eval().requires_grad_(requires_grad=False).to(device)


def load_scheduler(kind: Untyped, folder: Path, **overrides: object) -> Untyped:
    """Make a scheduler of class `kind` from a sub-folder's configuration. Raises ModelError."""
    config = read_json(folder / SCHEDULER_CONFIG)
    try:
        return kind.from_config({name: value for name, value in config.items() if name[0] != "_"}, **overrides)
    except Exception as error:  # the same
        raise ModelError(
            f"{folder / SCHEDULER_CONFIG} can't be used as {kind.__name__}: {first_line(error)}"
        ) from error


def sample_size_of(network: Untyped, folder: Path) -> int:
    """Give both sides of what a loaded network draws, in its own cells. Raises ModelError.

    diffusers takes any sample_size, so that a wrong one would be found out only when it is drawn with.
    """
    return sample_size_in(network.config, folder)


def sample_size_in(config: Mapping[str, Any], folder: Path) -> int:
    """Do the same by a network's configuration alone."""
    size = config.get("sample_size")
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_SIDE:
        raise ModelError(f"{folder / 'config.json'}: sample_size is {size!r}; it must be a whole number, 1..{MAX_SIDE}")
    return size


def keep_prompts_out_of_logs() -> None:
    """Silence warnings of diffusers' pipelines: they quote what is cut off a long prompt."""
    logging.getLogger("diffusers.pipelines").setLevel(logging.ERROR)


def load_tokenizer(folder: Path) -> Untyped:
    """Load a CLIP tokenizer from its sub-folder. Raises ModelError."""
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        raise ModelError(f"{folder} is missing: is the model complete?")
    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the same
        raise ModelError(f"{folder} can't be loaded as a CLIP tokenizer: {first_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration. Raises ModelError."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} is missing: is the model complete?") from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {first_line(error)}") from error
    if not isinstance(read, dict):
        raise ModelError(f"{path} holds no JSON object")
    return read


def hash_weights(folders: Iterable[Path]) -> Sha256:
    """Hash the weights in the parts of some models, by path and content.

    Parts are what `load_component` reads: sub-folders, or links to such. With the safetensors files goes the index that
    says which of them belong together.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted({*folder.glob("*/*.safetensors"), *folder.glob("*/*.safetensors*.json")}):
            digest.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as file:
                while chunk := file.read(_HASH_CHUNK):
                    digest.update(chunk)
    return Sha256(digest.hexdigest())


class OnDisk:
    """What every generator has that was loaded from folders."""

    def __init__(self, *folders: Path, card: GeneratorCard) -> None:
        self._folders, self._card = folders, card

    @property
    def card(self) -> GeneratorCard:
        """What it is and can do."""
        return self._card

    def weights_sha256(self) -> Sha256:
        """Hash all of its weights."""
        return self._weights_sha256

    @cached_property
    def _weights_sha256(self) -> Sha256:
        return hash_weights(self._folders)


def first_line(error: BaseException) -> str:
    """Give the first line of what an error says, its class where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def weights_of(folder: Path, stem: str) -> Path:
    """Find a sub-folder's safetensors file, or the index of several; stem is what the library calls them.

    Raises ModelError, also where two could be meant and so another than the checked one might be loaded; UnsafeWeights
    for pickles.
    """
    for names in _VARIANTS:
        found = [path for name in names if (path := folder / name.format(stem)).is_file()]
        if len(found) > 1:
            raise ModelError(
                f"{folder} has both {found[0].name} and {found[1].name}: take away the one that is not meant"
            )
        if found:
            return found[0]
    pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        raise UnsafeWeights(
            f"{folder} has weights as a pickle only ({pickles[0]}), which can run any code when it is loaded, so it is "
            "refused; get the model's safetensors files, or convert it on another machine: load it there with "
            "diffusers and `save_pretrained(…, safe_serialization=True)`"
        )
    raise ModelError(f"{folder} has no safetensors weights: is the model complete?")


def checked_weights(folder: Path, stem: str) -> Path:
    """Do as `weights_of`, and see that weights are all there and no pickles, in one file or in many."""
    weights = weights_of(folder, stem)
    if weights.suffix == ".safetensors":
        return require_safetensors(weights)
    for shard in _shards(weights):
        if Path(shard).name != shard:
            raise ModelError(f"{weights} names {shard}, which is not a file of its folder")
        if not (weights.parent / shard).is_file():
            raise ModelError(f"{weights} names {shard}, which is not there: is the model complete?")
        require_safetensors(weights.parent / shard)
    return weights


def _shards(index: Path) -> list[str]:
    """Give the names of the files that an index names. Raises ModelError."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: weight_map is no object of tensors and their files")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str):
            raise ModelError(f"{index}: weight_map puts {tensor} into {shard!r}, which is no name of a file")
    return sorted(set(weight_map.values()))
