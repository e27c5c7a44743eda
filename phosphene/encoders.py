"""Pictures and texts -> embeddings, by any OpenCLIP model; open_clip_models.py makes the models.

`phosphene.model_files` says how models are named. Everything heavy is imported when the first model is loaded.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from phosphene.errors import InvalidInput, InvalidSettings, ModelError
from phosphene.image_tower import FIRST_BATCH, CompiledTower, best_batch_size
from phosphene.model_files import STARTER, STARTER_FOLDER, cached_file, find_model
from phosphene.model_imports import restore_transformers
from phosphene.open_clip_models import (
    OpenClipArchitectures,
    build,
    first_line,
    import_open_clip,
    pixel_spec,
    require_text_tower,
    tokenizer_of,
)
from phosphene.types import (
    Float32,
    Pixels,
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
    open_clip = import_open_clip()
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
    import_open_clip()
    if "hf_model_name" in files.model_cfg["text_cfg"]:
        require_text_tower(files, cache_dir=cache_dir)
        restore_transformers()
    import torch  # takes seconds

    if threads is not None:
        torch.set_num_threads(threads)
    chosen = _choose_device(device)
    built, preprocess = build(files)
    return OpenClipEncoder(
        built.to(chosen).to(memory_format=torch.channels_last),
        tokenizer_of(files, cache_dir=cache_dir),
        space=Space(
            model=files.name,
            dimension=int(files.model_cfg["embed_dim"]),
            weights_sha256=_sha256_of_file(files.weights),
            pixels=pixel_spec(preprocess, files.name),
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
            f"PHOSPHENE_DEVICE={wanted} can't be used here ({first_line(error)}); auto chooses what there is"
        ) from error
    return device


def _to_numpy(rows: torch.Tensor) -> Float32:
    return np.ascontiguousarray(rows.float().cpu().numpy())


def _sha256_of_file(path: Path) -> Sha256:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
    return Sha256(digest.hexdigest())
