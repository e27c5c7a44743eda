"""From what the user calls a model to its files: configuration, safetensors weights, tokenizer. Never a pickle.

The forms that `PHOSPHENE_MODEL` may take:

    starter                                   the small model in the package
    ViT-B-32/laion2b_s34b_b79k                an open_clip architecture and pretrained tag, from the Hugging Face hub
    hf-hub:org/name                           a repository with open_clip_config.json and open_clip_model.safetensors
    /models/mine                              a folder with open_clip_config.json and one .safetensors file
    /models/mine/epoch_30.safetensors         a checkpoint with open_clip_config.json next to it
    ViT-B-32//models/epoch_30.safetensors     an open_clip architecture and a checkpoint of it (here an absolute path)

A tokenizer of the configuration (`hf_tokenizer_name`, as SigLIP has) is taken from the same folder when it is there.
"""

from __future__ import annotations

import difflib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from phosphene.errors import ModelError, ModelNotFound, UnsafeWeights

STARTER = "starter"
HUB_PREFIX = "hf-hub:"
CONFIG_NAME = "open_clip_config.json"
STARTER_FOLDER = Path(__file__).parent / "starter" / "clip"

# As open_clip looks for them in a folder and in a repository.
_WEIGHT_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".tar", ".npz", ".npy"})
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
)
_PROBE_S = 4.0  # huggingface_hub itself retries for 24 s when there is no network (measured)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Everything that makes a model: its name, the two parts of its configuration, and where its files lie."""

    name: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    weights: Path
    tokenizer: str | None  # a folder or a hub name; None: open_clip's own tokenizer


class Architectures(Protocol):
    """What open_clip knows by name."""

    def config(self, name: str) -> dict[str, Any] | None:
        """Give an architecture's configuration, None if there is none of that name."""

    def tag(self, name: str, tag: str) -> Mapping[str, Any] | None:
        """Give what is known of pretrained weights, None if unknown."""

    def names(self) -> Sequence[str]:
        """Name everything of the form architecture/tag."""


def full_name(model: str) -> str:
    """Name a model so that it means the same in any working folder: paths are made absolute."""
    model = model.strip()
    path = Path(model).expanduser()
    return str(path.absolute()) if model and model != STARTER and path.exists() else model


def find_model(model: str, *, architectures: Architectures, cache_dir: Path | None = None) -> ModelFiles:
    """Find the files of a model, downloading from the hub what is not cached.

    Raises ModelNotFound, UnsafeWeights or ModelError, each naming what to do.
    """
    model = model.strip()
    if model == STARTER:
        if not (STARTER_FOLDER / CONFIG_NAME).is_file():
            raise ModelNotFound(f"the starter model is missing from this installation ({STARTER_FOLDER}): reinstall it")
        return _in_folder(STARTER_FOLDER, name=STARTER)
    if model.startswith(HUB_PREFIX):
        return _on_hub(model, model.removeprefix(HUB_PREFIX), cache_dir=cache_dir)
    path = Path(model).expanduser()
    if model and path.is_dir():
        return _in_folder(path, name=path.resolve().name)
    if path.is_file():
        return _in_folder(path.parent, name=f"{path.resolve().parent.name}/{path.stem}", weights=path)
    at = model.find("/")
    while at > 0:
        architecture, rest = model[:at].replace("/", "-"), model[at + 1 :]
        config = architectures.config(architecture)
        if config is not None and rest:
            checkpoint = Path(rest).expanduser()
            if checkpoint.is_file():
                return _of_architecture(f"{architecture}/{checkpoint.stem}", config, checkpoint)
            tag = architectures.tag(architecture, rest)
            if tag is not None:
                return _pretrained(model, config, tag, cache_dir=cache_dir)
        at = model.find("/", at + 1)
    raise ModelNotFound(_unknown(model, architectures))


def require_safetensors(path: Path) -> Path:
    """Refuse weights that are a pickle or of another unsafe kind, by name and by content."""
    with path.open("rb") as file:
        start = file.read(10)
    if path.suffix == ".safetensors" and start[8:9] == b"{":
        return path
    if path.suffix in _PICKLES or start[:2] in (b"PK", b"\x80\x02", b"\x80\x04"):
        raise UnsafeWeights(
            f"{path} is a pickle, which can run any code when it is loaded, so it is refused. Where you trust it, "
            "convert it once, on another machine: "
            f"{_conversion(path)}"
        )
    raise ModelError(f"{path} is no safetensors file (its first bytes are {start!r}); was it downloaded completely?")


def _conversion(path: Path) -> str:
    return (
        'python -c "import torch; from safetensors.torch import save_file; '
        f"s = torch.load('{path.name}', map_location='cpu', weights_only=True); s = s.get('state_dict', s); "
        "save_file({k.removeprefix('module.'): v.contiguous().clone() for k, v in s.items()}, "
        f"'{path.with_suffix('.safetensors').name}')\""
    )


def _in_folder(folder: Path, *, name: str, weights: Path | None = None) -> ModelFiles:
    if weights is not None:
        require_safetensors(weights)  # first: it says more than a missing configuration
    config = folder / CONFIG_NAME
    if not config.is_file():
        what = "put it there, or name the architecture: ViT-B-32/" + str(weights) if weights else "put it there"
        raise ModelNotFound(f"{folder} has no {CONFIG_NAME}, which says what the weights are: {what}")
    model_cfg, preprocess_cfg = _read_config(config)
    if "hf_model_name" in model_cfg["text_cfg"] and (folder / "config.json").is_file():
        model_cfg["text_cfg"]["hf_model_name"] = str(folder)
    return ModelFiles(
        name=name,
        model_cfg=model_cfg,
        preprocess_cfg=preprocess_cfg,
        weights=require_safetensors(weights or _only_weights(folder)),
        tokenizer=_tokenizer_of(model_cfg, folder),
    )


def _only_weights(folder: Path) -> Path:
    for name in _WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ModelError(f"{folder} has several weights ({names}): name one, as in {found[0]}")
    for path in sorted(folder.iterdir()):
        if path.suffix in _PICKLES and path.name not in _TOKENIZER_FILES:
            require_safetensors(path)
    raise ModelNotFound(f"{folder} has no .safetensors file: copy {_WEIGHT_NAMES[0]} there")


def _of_architecture(name: str, config: dict[str, Any], weights: Path) -> ModelFiles:
    return ModelFiles(
        name=name,
        model_cfg=config,
        preprocess_cfg={},
        weights=require_safetensors(weights),
        tokenizer=_tokenizer_of(config, weights.parent),
    )


def _tokenizer_of(model_cfg: Mapping[str, Any], folder: Path) -> str | None:
    """Give the folder when it holds a tokenizer, else the name in the configuration."""
    name = model_cfg["text_cfg"].get("hf_tokenizer_name")
    if not name:
        return None
    return str(folder) if any((folder / file).is_file() for file in _TOKENIZER_FILES) else str(name)


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_cfg, preprocess_cfg = config["model_cfg"], config.get("preprocess_cfg", {})
        complete = isinstance(preprocess_cfg, dict) and {"embed_dim", "vision_cfg", "text_cfg"} <= set(model_cfg)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} can't be read as an open_clip configuration: {error!r}") from error
    if not complete:
        raise ModelError(f"{path} is no open_clip configuration: model_cfg needs embed_dim, vision_cfg and text_cfg")
    return model_cfg, preprocess_cfg


def _pretrained(model: str, config: dict[str, Any], tag: Mapping[str, Any], *, cache_dir: Path | None) -> ModelFiles:
    hub = str(tag.get("hf_hub") or "")
    if not hub:
        raise UnsafeWeights(
            f"{model} is published as a pickle only, which can run any code when it is loaded, so it is refused; "
            "`phosphene models` lists others"
        )
    repository, _, file = hub.rpartition("/")
    names = [Path(file).with_suffix(".safetensors").name] if file else []
    weights = _fetch_weights(model, repository, [*names, *_WEIGHT_NAMES], cache_dir=cache_dir)
    if tag.get("quick_gelu"):
        config["quick_gelu"] = True  # open_clip only warns where tag and architecture differ, and embeds wrongly
    tokenizer = config["text_cfg"].get("hf_tokenizer_name") or None
    return ModelFiles(model, config, dict(tag), weights, tokenizer)


def _on_hub(model: str, repository: str, *, cache_dir: Path | None) -> ModelFiles:
    config_path = _fetch(model, repository, CONFIG_NAME, cache_dir=cache_dir)
    if config_path is None:
        raise ModelNotFound(f"{model} has no {CONFIG_NAME}: it is no open_clip model")
    weights = _fetch_weights(model, repository, _WEIGHT_NAMES, cache_dir=cache_dir)
    model_cfg, preprocess_cfg = _read_config(config_path)
    tokenizer = model_cfg["text_cfg"].get("hf_tokenizer_name") or None
    return ModelFiles(model, model_cfg, preprocess_cfg, weights, tokenizer)


def cached_file(repository: str, file: str, *, cache_dir: Path | None = None) -> Path | None:
    """Find a file of a hub repository in the local cache; no network."""
    from huggingface_hub import try_to_load_from_cache  # only for hub models

    found = try_to_load_from_cache(repository, file, cache_dir=cache_dir)
    return Path(found) if isinstance(found, str) else None


def _fetch_weights(model: str, repository: str, names: Sequence[str], *, cache_dir: Path | None) -> Path:
    """Give the weights, from the cache if they are there."""
    for name in names:
        if (found := cached_file(repository, name, cache_dir=cache_dir)) is not None:
            return require_safetensors(found)
    for name in names:
        if (found := _fetch(model, repository, name, cache_dir=cache_dir)) is not None:
            return require_safetensors(found)
    raise UnsafeWeights(
        f"{model} ({repository}) has no safetensors weights; pickles can run any code when they are loaded, so they "
        "are refused. `phosphene models` lists others"
    )


def _fetch(model: str, repository: str, file: str, *, cache_dir: Path | None) -> Path | None:
    """Give a file of a hub repository from the cache or the network; None where the repository has no such file."""
    from huggingface_hub import hf_hub_download  # only for hub models
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    if (found := cached_file(repository, file, cache_dir=cache_dir)) is not None:
        return found
    _require_hub(model, repository, cache_dir=cache_dir)
    try:
        return Path(hf_hub_download(repository, file, cache_dir=cache_dir, etag_timeout=_PROBE_S))
    except LocalEntryNotFoundError as error:
        raise ModelNotFound(_no_network(model, repository, cache_dir=cache_dir)) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelNotFound(f"{model} can't be had from the Hugging Face hub: {reason}") from error


def _require_hub(model: str, repository: str, *, cache_dir: Path | None) -> None:
    if not hub_reachable():
        raise ModelNotFound(_no_network(model, repository, cache_dir=cache_dir))


def hub_reachable() -> bool:
    """Ask once, for a few seconds, whether the Hugging Face hub is there at all."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        question = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310  # the hub's https address
        urllib.request.urlopen(question, timeout=_PROBE_S).close()  # noqa: S310
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _no_network(model: str, repository: str, *, cache_dir: Path | None) -> str:
    from huggingface_hub import constants  # only for hub models

    return (
        f"the model {model} is not cached in {cache_dir or constants.HF_HUB_CACHE} and the Hugging Face hub can't be "
        f"reached. Where there is network: `hf download {repository}`, copy that folder here and set PHOSPHENE_MODEL "
        "to its path; or use PHOSPHENE_MODEL=starter, which is always here"
    )


def _unknown(model: str, architectures: Architectures) -> str:
    if os.sep in model and (model.startswith((".", "~", os.sep)) or Path(model).suffix):
        return f"{model}: no such file or folder"
    if architectures.config(model.replace("/", "-")) is not None:
        tags = [name.split("/")[1] for name in architectures.names() if name.startswith(f"{model}/")]
        return f"{model} is an architecture without weights; say which, as in {model}/{tags[0] if tags else 'file'}"
    near = difflib.get_close_matches(model, [STARTER, *architectures.names()], n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no model is called {model}{hint} (`phosphene models` lists them)"
