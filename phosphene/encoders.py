"""Pictures and texts -> embeddings, by any OpenCLIP model. The only file that imports open_clip and torch.

`phosphene.model_files` says how models are named. Everything heavy is imported when the first model is loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from phosphene.errors import InvalidInput, InvalidSettings, ModelError, ModelNotFound
from phosphene.image_tower import FIRST_BATCH, CompiledTower, best_batch_size
from phosphene.model_files import STARTER, STARTER_FOLDER, ModelFiles, cached_file, find_model, hub_reachable
from phosphene.model_imports import light_imports, restore_transformers
from phosphene.types import (
    Float32,
    Pixels,
    PixelSpec,
    RawEmbeddings,
    Sha256,
    Space,
    UnitEmbeddings,
)

if TYPE_CHECKING:
    import torch

_HASH_CHUNK = 1 << 20
_REPEATED = 3  # batches that are timed

log = logging.getLogger(__name__)


class Encoder(Protocol):
    """One model that embeds pictures and texts into one space."""

    @property
    def space(self) -> Space:
        """What the embeddings can be compared with."""

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines by before a softmax: as it was trained."""

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        """Embed (n, size, size, 3) uint8 pictures, any n >= 0. Thread-safe."""

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        """Embed texts, any number of them. Thread-safe."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model that can be named: `name` is what PHOSPHENE_MODEL takes."""

    name: str
    cached: bool  # its weights are on this machine
    repository: str | None  # on the Hugging Face hub


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """Sentences that a label is put into; the mean of their unit embeddings names it better than the bare word.

    Radford et al. 2021 (arXiv 2103.00020), section 3.1.4.
    """

    templates: tuple[str, ...] = ("a photo of a {}.", "a drawing of a {}.", "{}")

    def __post_init__(self) -> None:
        """Refuse templates without a place for the label."""
        wrong = [template for template in self.templates if template.count("{}") != 1]
        if wrong or not self.templates:
            raise InvalidInput(f"a prompt template holds {{}} once, where the label goes; these do not: {wrong}")

    def embed(self, labels: Sequence[str], *, encoder: Encoder) -> UnitEmbeddings:
        """Embed each label as the mean over the templates in unit space: (n, d)."""
        texts = [template.replace("{}", label) for label in labels for template in self.templates]
        rows = encoder.encode_texts(texts).unit().rows
        means = rows.reshape(len(labels), len(self.templates), rows.shape[1]).mean(axis=1, dtype=np.float32)
        return RawEmbeddings(encoder.space, np.asarray(means, dtype=np.float32)).unit()


def imagenet_prompts() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give OpenCLIP's names of ImageNet's 1,000 classes, in the order of their WordNet ids, and its 80 sentences."""
    open_clip = _import_open_clip()
    sentences = tuple(str(template("{}")) for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
    return tuple(open_clip.IMAGENET_CLASSNAMES), sentences


def load_encoder(
    model: str,
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int | None = None,
    compiler: str | None = None,
    cache_dir: Path | None = None,
) -> Encoder:
    """Load an OpenCLIP model by any of the names in `phosphene.model_files`.

    `threads` sets how many torch uses in this process, `batch_size` how many pictures go through at once (None: as many
    as `find_batch_size` finds), `compiler` the backend of torch.compile for the image tower. Raises ModelNotFound,
    UnsafeWeights, ModelError, and InvalidSettings for a device that is not there.
    """
    files = find_model(model, architectures=OpenClipArchitectures(), cache_dir=cache_dir)
    _import_open_clip()
    if "hf_model_name" in files.model_cfg["text_cfg"]:
        _require_text_tower(files, cache_dir=cache_dir)
        restore_transformers()
    import torch  # takes seconds

    if threads is not None:
        torch.set_num_threads(threads)
    chosen = _choose_device(device)
    built, preprocess = _build(files)
    return OpenClipEncoder(
        built.to(chosen).to(memory_format=torch.channels_last),
        _tokenizer(files, cache_dir=cache_dir),
        space=Space(
            model=files.name,
            dimension=int(files.model_cfg["embed_dim"]),
            weights_sha256=_sha256_of_file(files.weights),
            pixels=_pixel_spec(preprocess, files.name),
        ),
        device=chosen,
        batch_size=batch_size,
        compiler=compiler,
    )


def batch_size_of(encoder: Encoder) -> int:
    """Tell how many pictures an encoder takes at once."""
    return encoder.batch_size if isinstance(encoder, OpenClipEncoder) else FIRST_BATCH


def describe_models(*, cache_dir: Path | None = None) -> list[ModelDescription]:
    """List what can be named, the starter first, and say what is on this machine already."""
    described = [ModelDescription(STARTER, (STARTER_FOLDER / "open_clip_model.safetensors").is_file(), None)]
    architectures = OpenClipArchitectures()
    for name in architectures.names():
        architecture, _, tag = name.partition("/")
        repository, _, file = str((architectures.tag(architecture, tag) or {}).get("hf_hub", "")).rpartition("/")
        if repository:
            weights = Path(file).with_suffix(".safetensors").name if file else "open_clip_model.safetensors"
            cached = cached_file(repository, weights, cache_dir=cache_dir) is not None
            described.append(ModelDescription(name, cached, repository))
    return described


class OpenClipEncoder:
    """Any model of open_clip. Weights and results are float32; on GPUs the arithmetic between is bf16 or fp16."""

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Callable[[list[str]], torch.Tensor],
        *,
        space: Space,
        device: torch.device,
        batch_size: int | None,
        compiler: str | None = None,
    ) -> None:
        import torch  # takes seconds

        self._model: Any = model.eval().requires_grad_(requires_grad=False)
        self._tokenizer = tokenizer
        self._tokenizing = threading.Lock()  # fast tokenizers of the hub can't be shared ("Already borrowed")
        self._space = space
        self._device = device
        self._batch_size = batch_size or FIRST_BATCH  # halved where the device has no room for it
        self._to_be_found = batch_size is None and device.type == "cuda"
        self._finding = threading.Lock()
        self._tower: Callable[[torch.Tensor], torch.Tensor] = self._encode_image
        if compiler is not None:
            self._tower = CompiledTower(self._encode_image, backend=compiler, model=space.model)
        self._mean = torch.tensor(space.pixels.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(space.pixels.std, device=device).view(1, 3, 1, 1)

    @property
    def space(self) -> Space:
        """What the embeddings can be compared with."""
        return self._space

    @property
    def batch_size(self) -> int:
        """How many pictures go through at once."""
        return self._batch_size

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines by before a softmax."""
        return float(self._model.logit_scale.exp())

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        """Embed (n, size, size, 3) uint8 pictures, as `phosphene.images.fit` gives them. Raises InvalidInput."""
        size = self._space.pixels.size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise InvalidInput(
                f"{self._space.model} takes pictures of shape (n, {size}, {size}, 3) uint8, "
                f"not {pixels.shape} {pixels.dtype}"
            )
        return self._embed(len(pixels), lambda part: self._embed_pixels(pixels[part]))

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        """Embed texts; what is longer than the model's context is cut. Raises InvalidInput."""
        if isinstance(texts, str):
            raise InvalidInput("encode_texts takes several texts; put a single one into a list")
        return self._embed(len(texts), lambda part: self._embed_texts(list(texts[part])))

    def find_batch_size(
        self, *, share: Callable[[], float] | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Find by trying how many pictures at once are quickest, unless that is set or known; takes seconds on a GPU.

        `share` tells how much of the device's memory is in use, 0..1.
        """
        import torch  # here already

        with self._finding:
            if not self._to_be_found:
                return
            self._to_be_found = False
            size = self._space.pixels.size

            def rate(count: int) -> float:
                blank = np.zeros((count, size, size, 3), dtype=np.uint8)
                self._embed_pixels(blank)  # what is chosen or compiled at the first time is not measured
                began = clock()
                for _ in range(_REPEATED):
                    self._embed_pixels(blank)
                return _REPEATED * count / max(clock() - began, 1e-9)

            with torch.inference_mode(), self._precision():
                self._batch_size = best_batch_size(
                    rate, share=share or self._memory_in_use, no_room=torch.OutOfMemoryError
                )
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            log.info("%s takes %d pictures at once on %s", self._space.model, self._batch_size, self._device)

    def _memory_in_use(self) -> float:
        import torch  # here already

        free, total = torch.cuda.mem_get_info(self._device)
        return 1 - free / total

    def _embed(self, count: int, embed: Callable[[slice], Float32]) -> RawEmbeddings:
        import torch  # here already

        parts: list[Float32] = [np.empty((0, self._space.dimension), dtype=np.float32)]
        at = 0
        with torch.inference_mode(), self._precision():
            while at < count:
                end = min(at + self._batch_size, count)
                try:
                    parts.append(embed(slice(at, end)))
                except torch.OutOfMemoryError:
                    if end - at == 1:
                        raise
                    self._batch_size = (end - at) // 2
                    log.warning(
                        "%d at once are too many for %s: %d from now on", end - at, self._device, self._batch_size
                    )
                    continue
                at = end
        rows = np.concatenate(parts) if len(parts) != 2 else parts[1]
        if len(rows) != count:
            raise ModelError(f"{self._space.model} gave {len(rows)} embeddings for {count} inputs")
        return RawEmbeddings(self._space, rows)

    def _embed_pixels(self, pixels: Pixels) -> Float32:
        import torch  # here already

        # (n, h, w, 3) seen as (n, 3, h, w) lies in memory as channels_last, which convolutions like.
        rows = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        if self._device.type == "cuda":
            rows = rows.pin_memory()  # copied by the device itself, while the model works on
        batch = rows.to(self._device, non_blocking=self._device.type == "cuda").permute(0, 3, 1, 2)
        scaled = batch.to(torch.float32).div_(255).sub_(self._mean).div_(self._std)
        return _to_numpy(self._tower(scaled))

    def _encode_image(self, scaled: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self._model.encode_image(scaled, normalize=False)
        return rows

    def _embed_texts(self, texts: list[str]) -> Float32:
        with self._tokenizing:
            tokens = self._tokenizer(texts)
        return _to_numpy(self._model.encode_text(tokens.to(self._device), normalize=False))

    def _precision(self) -> AbstractContextManager[object]:
        import torch  # here already

        if self._device.type == "cpu":
            return nullcontext()
        wide = self._device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast(self._device.type, dtype=torch.bfloat16 if wide else torch.float16)


class OpenClipArchitectures:
    """What open_clip knows by name; imports it when first asked."""

    def config(self, name: str) -> dict[str, Any] | None:
        """Give an architecture's configuration, None if there is none of that name."""
        found: dict[str, Any] | None = _import_open_clip().factory.get_model_config(name)
        return found

    def tag(self, name: str, tag: str) -> Mapping[str, Any] | None:
        """Give what is known of pretrained weights, None if unknown."""
        found: dict[str, Any] = _import_open_clip().pretrained.get_pretrained_cfg(name, tag)
        return found or None

    def names(self) -> Sequence[str]:
        """Name everything of the form architecture/tag."""
        return ["/".join(pair) for pair in _import_open_clip().list_pretrained()]


def _import_open_clip() -> Any:  # noqa: ANN401  # a module without type information
    with light_imports():
        return importlib.import_module("open_clip")


def _build(files: ModelFiles) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Make the model and fill it from its safetensors file, as open_clip.create_model does for one of its own."""
    open_clip = _import_open_clip()
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
        raise ModelNotFound(f"{files.name} needs a file that is not here: {_first_line(error)}") from error
    except Exception as error:  # anything may be wrong with a configuration or weights made elsewhere
        raise ModelError(f"{files.name} can't be loaded from {files.weights}: {_first_line(error)}") from error
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


def _pixel_spec(preprocess: Mapping[str, Any], name: str) -> PixelSpec:
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


def _tokenizer(files: ModelFiles, *, cache_dir: Path | None) -> Callable[[list[str]], torch.Tensor]:
    open_clip = _import_open_clip()
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
            reason = _first_line(error)
        else:
            return made
    raise ModelNotFound(
        f"the tokenizer of {files.name} ({files.tokenizer}) is not here: copy its tokenizer.json and "
        f"tokenizer_config.json next to {files.weights.name} ({reason})"
    )


def _require_text_tower(files: ModelFiles, *, cache_dir: Path | None) -> None:
    """See that a text tower's configuration can be had; transformers would try for half a minute."""
    tower = files.model_cfg["text_cfg"]["hf_model_name"]
    here = Path(tower).is_dir() or cached_file(tower, "config.json", cache_dir=cache_dir) is not None
    if not here and not hub_reachable():
        raise ModelNotFound(
            f"{files.name} has a text tower of {tower}, whose configuration is not cached, and the Hugging Face hub "
            f"can't be reached: copy its config.json next to {files.weights.name}"
        )


def _choose_device(wanted: str) -> torch.device:
    import torch  # here already

    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidSettings(
            f"PHOSPHENE_DEVICE={wanted} can't be used here ({_first_line(error)}); auto chooses what there is"
        ) from error
    return device


def _to_numpy(rows: torch.Tensor) -> Float32:
    return np.ascontiguousarray(rows.float().cpu().numpy())


def _first_line(error: BaseException) -> str:
    return next(_lines(str(error)), type(error).__name__)


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _sha256_of_file(path: Path) -> Sha256:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return Sha256(digest.hexdigest())
