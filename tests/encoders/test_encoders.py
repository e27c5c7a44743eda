from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import RobertaConfig

from phosphene.encoders import Encoder, OpenClipEncoder, PromptTemplates, load_encoder
from phosphene.errors import InvalidInput, InvalidSettings
from phosphene.images import fit
from phosphene.types import Pixels, PixelSpec, sha256_of
from tests.encoders.checkpoints import SMALL_CLIP, SMALL_TEXT, SMALL_VISION, random_weights, save_model, save_tokenizer
from tests.pictures.samples import picture

TEXTS = ["a photo of a red bus", "the cat", "blue boat in the street", ""]
SIZES = [(300, 200), (120, 333), (64, 64), (31, 47)]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("small") / "tiny-clip", SMALL_CLIP, mean=[0.5] * 3, std=[0.25] * 3)


@pytest.fixture(scope="session")
def vit_b_32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real architecture, its weights random and in fp16."""
    path = tmp_path_factory.mktemp("vit") / "random.safetensors"
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    save_file({name: tensor.half() for name, tensor in random_weights(model).items()}, path)
    return path


def make(kind: str, folder: Path) -> Path:
    """Make one of the families of open_clip's models."""
    if kind == "siglip":  # the real ViT-B-16-SigLIP
        config = open_clip.get_model_config("ViT-B-16-SigLIP")
        save_tokenizer(folder)
        return save_model(folder, config, mean=[0.5] * 3, std=[0.5] * 3, resize_mode="squash", interpolation="bicubic")
    if kind == "custom text":
        text = {**SMALL_TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True}
        return save_model(
            folder, {**SMALL_CLIP, "custom_text": True, "text_cfg": text}, resize_mode="longest", fill_color=200
        )
    if kind == "coca":
        config = {
            **SMALL_CLIP,
            "custom_text": True,
            "vision_cfg": {**SMALL_VISION, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
            "text_cfg": {**SMALL_TEXT, "embed_cls": True, "output_tokens": True},
            "multimodal_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 1},
        }
        return save_model(folder, config)
    if kind == "convolutions":
        vision = {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
        return save_model(folder, {**SMALL_CLIP, "vision_cfg": vision}, interpolation="bilinear")
    if kind == "text tower of the hub":
        folder.mkdir()
        save_tokenizer(folder, pad="<pad>")
        tower = RobertaConfig(
            vocab_size=40, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=32, pad_token_id=0,
        )  # fmt: skip
        tower.save_pretrained(folder)
        text = {
            "hf_model_name": str(folder), "hf_tokenizer_name": "roberta-base", "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "mlp", "context_length": 16,
        }  # fmt: skip
        return save_model(folder, {**SMALL_CLIP, "text_cfg": text})
    raise ValueError(kind)


KINDS = ["siglip", "custom text", "coca", "convolutions", "text tower of the hub"]


def compare_with_open_clip(encoder: Encoder, model: Any, transform: Any, tokenizer: Any) -> None:  # noqa: ANN401
    """Our embeddings of pictures and texts are those of open_clip's own pipeline."""
    pictures = [picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
    model.eval()
    with torch.inference_mode():
        theirs = model.encode_image(torch.stack([transform(each) for each in pictures])).float().numpy()
        their_texts = model.encode_text(tokenizer(TEXTS)).float().numpy()
    if type(model).__name__ == "CoCa":  # its default is unit length
        with torch.inference_mode():
            theirs = model.encode_image(torch.stack([transform(p) for p in pictures]), normalize=False).numpy()
            their_texts = model.encode_text(tokenizer(TEXTS), normalize=False).numpy()
    ours = encoder.encode_pixels(np.stack([fit(each, encoder.space.pixels) for each in pictures]))
    our_texts = encoder.encode_texts(TEXTS)
    for mine, plain in ((ours, theirs), (our_texts, their_texts)):
        assert mine.rows.shape == plain.shape == (4, encoder.space.dimension)
        assert mine.rows.dtype == np.float32
        scale = np.linalg.norm(plain, axis=1, keepdims=True)
        assert np.abs(mine.rows / scale - plain / scale).max() < 1e-5
    # Otherwise everything above would hold for a model that ignores its input.
    assert np.linalg.norm(ours.unit().rows[0] - ours.unit().rows[1]) > 1e-3
    assert np.linalg.norm(our_texts.unit().rows[0] - our_texts.unit().rows[2]) > 1e-3


def test_vit_b_32_is_open_clips_own_pipeline(vit_b_32: Path) -> None:
    encoder = load_encoder(f"ViT-B-32/{vit_b_32}")
    assert (encoder.space.model, encoder.space.dimension) == ("ViT-B-32/random", 512)
    assert encoder.space.pixels == PixelSpec(size=224)
    assert encoder.space.weights_sha256 == sha256_of(vit_b_32.read_bytes())
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=str(vit_b_32))
    compare_with_open_clip(encoder, model, transform, open_clip.get_tokenizer("ViT-B-32"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_of_models_is_open_clips_own_pipeline(kind: str, tmp_path: Path) -> None:
    folder = make(kind, tmp_path / "model")
    encoder = load_encoder(str(folder))
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    compare_with_open_clip(encoder, model, transform, open_clip.get_tokenizer(f"local-dir:{folder}"))


def test_the_starter_is_open_clips_own_pipeline() -> None:
    from phosphene.model_files import STARTER_FOLDER

    encoder = load_encoder("starter")
    assert encoder.space.model == "starter"
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{STARTER_FOLDER}")
    compare_with_open_clip(encoder, model, transform, open_clip.get_tokenizer(f"local-dir:{STARTER_FOLDER}"))


def random_pixels(count: int, encoder: Encoder) -> Pixels:
    size = encoder.space.pixels.size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 20])
def test_batches_of_any_number_give_the_same_rows(small: Path, count: int) -> None:
    encoder, whole = load_encoder(str(small), batch_size=7), load_encoder(str(small), batch_size=64)
    pixels = random_pixels(count, encoder)
    texts = [f"text number {at}" for at in range(count)]
    for ours, expected in (
        (encoder.encode_pixels(pixels), whole.encode_pixels(pixels)),
        (encoder.encode_texts(texts), whole.encode_texts(texts)),
    ):
        assert (ours.rows.shape, str(ours.rows.dtype)) == ((count, 48), "float32")
        assert np.allclose(ours.rows, expected.rows, atol=1e-5)


def test_pixels_of_any_memory_layout_are_taken(small: Path) -> None:
    encoder = load_encoder(str(small))
    pixels = random_pixels(4, encoder)
    expected = encoder.encode_pixels(pixels).rows
    read_only = pixels.copy()
    read_only.flags.writeable = False
    doubled = np.repeat(pixels, 2, axis=0)
    for same in (read_only, doubled[::2], np.asfortranarray(pixels)):
        assert np.allclose(encoder.encode_pixels(same).rows, expected, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 33, 33, 3), np.uint8),
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((2, 32, 32, 4), np.uint8),
    ],
)
def test_wrong_pixels_are_refused_with_what_is_wanted(small: Path, wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidInput, match=r"\(n, 32, 32, 3\) uint8"):
        load_encoder(str(small)).encode_pixels(wrong)


def test_a_lone_string_is_not_taken_for_texts(small: Path) -> None:
    with pytest.raises(InvalidInput, match="list"):
        load_encoder(str(small)).encode_texts("a cat")


def test_long_texts_are_cut_and_odd_ones_embedded(small: Path) -> None:
    encoder = load_encoder(str(small))
    assert len(encoder.encode_texts(["word " * 500, "", "\0\n", "日本語 🦊", "<end_of_text>"])) == 5


def test_many_threads_get_what_one_gets(small: Path) -> None:
    encoder = load_encoder(str(small))
    pixels, texts = random_pixels(16, encoder), [f"text {at}" for at in range(16)]
    expected, expected_texts = encoder.encode_pixels(pixels).rows, encoder.encode_texts(texts).rows
    with ThreadPoolExecutor(8) as threads:
        rows = list(threads.map(lambda at: encoder.encode_pixels(pixels[at : at + 1]).rows[0], list(range(16)) * 4))
        text_rows = list(threads.map(lambda at: encoder.encode_texts([texts[at]]).rows[0], list(range(16)) * 4))
    assert np.allclose(rows, np.tile(expected, (4, 1)), atol=1e-5)
    assert np.allclose(text_rows, np.tile(expected_texts, (4, 1)), atol=1e-5)


def test_a_space_names_exact_weights_and_preprocessing(small: Path, tmp_path: Path) -> None:
    space = load_encoder(str(small)).space
    assert space.model == "tiny-clip"
    assert space.pixels == PixelSpec(size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    moved = tmp_path / "tiny-clip"
    moved.mkdir()
    for file in small.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert load_encoder(str(moved)).space.id == space.id
    config = json.loads((moved / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["std"] = [0.5] * 3
    (moved / "open_clip_config.json").write_text(json.dumps(config))
    assert load_encoder(str(moved)).space.id != space.id


def test_prompt_templates_are_averaged_in_unit_space(small: Path) -> None:
    encoder = load_encoder(str(small))
    templates = PromptTemplates(("a photo of a {}.", "{}"))
    made = templates.embed(["cat", "red {} bus"], encoder=encoder)
    rows = encoder.encode_texts(["a photo of a cat.", "cat"]).unit().rows
    expected = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    assert np.allclose(made.rows[0], expected, atol=1e-6)
    assert len(made) == 2
    assert len(templates.embed([], encoder=encoder)) == 0
    with pytest.raises(InvalidInput, match="holds"):
        PromptTemplates(("no place",))
    with pytest.raises(InvalidInput):
        PromptTemplates(())


@pytest.mark.parametrize("device", ["cuda:77", "nonsense"])
def test_a_device_that_is_not_there_is_named(small: Path, device: str) -> None:
    with pytest.raises(InvalidSettings, match=f"PHOSPHENE_DEVICE={device}"):
        load_encoder(str(small), device=device)


@pytest.mark.gpu
def test_a_gpu_gives_nearly_what_the_cpu_gives(small: Path) -> None:
    """On a machine without CUDA or MPS this compares the CPU with itself."""
    chosen, cpu = load_encoder(str(small)), load_encoder(str(small), device="cpu")
    pixels = random_pixels(9, cpu)
    for ours, plain in (
        (chosen.encode_pixels(pixels), cpu.encode_pixels(pixels)),
        (chosen.encode_texts(TEXTS), cpu.encode_texts(TEXTS)),
    ):
        assert ours.rows.dtype == np.float32
        assert (ours.unit().rows * plain.unit().rows).sum(axis=1).min() > 0.995


@pytest.mark.gpu
def test_a_batch_that_the_device_has_no_room_for_is_halved_and_that_is_kept(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's word for it comes from a stand-in that has room for three pictures."""
    encoder = load_encoder(str(small), batch_size=16)
    assert isinstance(encoder, OpenClipEncoder)
    pixels = random_pixels(11, encoder)
    expected = encoder.encode_pixels(pixels).rows
    real, tried = encoder._model.encode_image, []

    def cramped(batch: torch.Tensor, *, normalize: bool) -> torch.Tensor:
        tried.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("no room")
        embedded: torch.Tensor = real(batch, normalize=normalize)
        return embedded

    monkeypatch.setattr(encoder._model, "encode_image", cramped)
    assert np.allclose(encoder.encode_pixels(pixels).rows, expected, atol=1e-5)
    assert tried == [11, 5, 2, 2, 2, 2, 2, 1]
    tried.clear()
    encoder.encode_pixels(pixels)
    assert tried == [2, 2, 2, 2, 2, 1]

    def full(_batch: torch.Tensor, *, normalize: bool) -> torch.Tensor:
        raise torch.OutOfMemoryError(f"no room at all, {normalize=}")

    monkeypatch.setattr(encoder._model, "encode_image", full)
    with pytest.raises(torch.OutOfMemoryError, match="no room at all"):
        encoder.encode_pixels(pixels)


def test_a_compiled_tower_gives_the_same_for_any_number_of_pictures(
    small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, compiled = (
        load_encoder(str(small), device="cpu"),
        load_encoder(str(small), device="cpu", compiler="aot_eager"),
    )
    seen: list[int] = []
    for count in (5, 9, 1, 7):
        pixels = random_pixels(count, plain)
        np.testing.assert_allclose(
            compiled.encode_pixels(pixels).rows, plain.encode_pixels(pixels).rows, rtol=1e-4, atol=1e-5
        )
        seen.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert seen[0] > 0, "something was compiled"
    assert seen[-1] == seen[-2], "one program for every number of pictures, once it has met two of them"
    assert "can't be compiled" not in caplog.text
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def test_what_can_not_be_compiled_is_said_once_and_runs_as_it_is(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> Any:  # noqa: ANN401  what torch takes for a program
        raise RuntimeError("no C++ compiler is here")

    torch._dynamo.register_backend(broken, name="broken")
    encoder = load_encoder(str(small), device="cpu", compiler="broken")
    pixels = random_pixels(3, encoder)
    expected = load_encoder(str(small), device="cpu").encode_pixels(pixels).rows
    for _ in range(2):
        assert np.array_equal(encoder.encode_pixels(pixels).rows, expected)
    (said,) = [record.getMessage() for record in caplog.records if "PHOSPHENE_COMPILE" in record.getMessage()]
    assert "\n" not in said
    assert "no C++ compiler is here" in said
    torch._dynamo.reset()


class Device:
    """Stands in for a GPU: has room for so many pictures, takes `overhead_s` a batch and 1 ms a picture."""

    def __init__(self, encoder: OpenClipEncoder, *, room: int, overhead_s: float) -> None:
        self._real, self._room, self._overhead_s = encoder._model.encode_image, room, overhead_s
        self.now_s, self.tried = 0.0, list[int]()

    def encode_image(self, batch: torch.Tensor, *, normalize: bool) -> torch.Tensor:
        self.tried.append(len(batch))
        if len(batch) > self._room:
            raise torch.OutOfMemoryError("no room")
        self.now_s += self._overhead_s + 0.001 * len(batch)
        embedded: torch.Tensor = self._real(batch, normalize=normalize)
        return embedded

    def share(self) -> float:
        return self.tried[-1] / self._room


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("room", "overhead_s", "found"),
    [
        (2000, 1.0, 512),  # each size is quicker than the one before: as many as there may be
        (2000, 0.008, 128),  # 6 % quicker with 128 at once than with 64, and 3 % with 256
        (300, 1.0, 128),  # 256 fit, but nothing else would
        (200, 1.0, 128),  # 256 don't fit
        (20, 1.0, 16),
        (1, 1.0, 1),
    ],
)
def test_how_many_at_once_are_quickest_is_found_by_trying(
    small: Path, monkeypatch: pytest.MonkeyPatch, room: int, overhead_s: float, found: int
) -> None:
    encoder = load_encoder(str(small), device="cpu")
    assert isinstance(encoder, OpenClipEncoder)
    encoder.find_batch_size()
    assert encoder.batch_size == 64, "on a CPU nothing is tried"
    device = Device(encoder, room=room, overhead_s=overhead_s)
    monkeypatch.setattr(encoder._model, "encode_image", device.encode_image)
    monkeypatch.setattr(encoder, "_to_be_found", True)
    encoder.find_batch_size(share=device.share, clock=lambda: device.now_s)
    assert encoder.batch_size == found
    device.tried.clear()
    encoder.find_batch_size(share=device.share)
    assert device.tried == [], "once is enough"
    set_by_hand = load_encoder(str(small), device="cpu", batch_size=7)
    assert isinstance(set_by_hand, OpenClipEncoder)
    assert (set_by_hand.batch_size, set_by_hand._to_be_found) == (7, False)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_threads_are_set_and_nothing_heavy_is_imported_before_a_model_is_loaded(small: Path) -> None:
    shown = run(f"""
import sys
import phosphene.encoders
assert not {{"torch", "open_clip", "transformers", "timm"}} & set(sys.modules)
encoder = phosphene.encoders.load_encoder({str(small)!r}, threads=1)
import torch
encoder.encode_texts(["a"])
print(torch.get_num_threads(), "transformers" in sys.modules, "torch._dynamo" in sys.modules)
""")
    assert shown == "1 False False"


def test_after_a_light_load_everything_else_still_works(small: Path, tmp_path: Path) -> None:
    """A tower from transformers, and torch's compiler, in a process that did without them at first."""
    tower = make("text tower of the hub", tmp_path / "tower")
    shown = run(f"""
import phosphene.encoders
phosphene.encoders.load_encoder({str(small)!r})
encoder = phosphene.encoders.load_encoder({str(tower)!r})
rows = encoder.encode_texts(["a red bus"]).rows
import torch
import torch._dynamo.utils
import transformers
print(rows.shape, torch.compiler.is_compiling(), callable(torch._dynamo.optimize))
""")
    assert shown == "(1, 48) False True"
