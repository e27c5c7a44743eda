"""Naming generators, and what is said when one can't be had. Random weights: plumbing, not meaning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from phosphene.encoders import Encoder
from phosphene.errors import InvalidSettings, ModelError, ModelNotFound, SpaceMismatch, UnsafeWeights
from phosphene.types import PixelSpec, RawEmbeddings, Sha256, Space
from phosphene.unclip.components import hash_weights
from phosphene.unclip.imagine import Part, Request, imagine
from phosphene.unclip.loading import load_generator
from tests.unclip import starter_models
from tests.unclip.conftest import PRIORS

DECODER = "decoder/diffusion_pytorch_model.safetensors"
PROJECTION = "text_proj/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def karlo(folders: dict[str, Path], tmp_path: Path) -> Path:
    """Give a copy that may be broken."""
    return Path(shutil.copytree(folders["karlo"], tmp_path / "karlo"))


def refusal(model: Path | str, kind: type[Exception], *, encoder: Encoder | None = None, **options: Path | str) -> str:
    with pytest.raises(kind) as caught:
        load_generator(str(model), encoder=encoder, **{"device": "cpu", **options})  # type: ignore[arg-type]
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def drop(path: Path, name: str) -> None:
    """Take one tensor out of a file of weights."""
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("weights", [DECODER, PROJECTION, TEXT])
def test_pickles_are_refused_with_the_reason(karlo: Path, weights: str) -> None:
    safe = karlo / weights
    torch.save(load_file(safe), safe.with_suffix(".bin"))
    safe.unlink()
    message = refusal(karlo, UnsafeWeights)
    assert str(safe.parent) in message
    assert "run any code" in message
    assert "safe_serialization" in message


@pytest.mark.parametrize("weights", [DECODER, PROJECTION, TEXT])
def test_a_pickle_under_a_safe_name_is_refused_too(karlo: Path, weights: str) -> None:
    torch.save({"a": torch.zeros(3)}, karlo / weights)
    refusal(karlo, UnsafeWeights)


def test_a_pickle_beside_safe_weights_is_not_read(karlo: Path) -> None:
    (karlo / DECODER).with_suffix(".bin").write_bytes(b"PK\3\4")
    assert load_generator(str(karlo), device="cpu").card.layout == "karlo"


@pytest.mark.parametrize("weights", [DECODER, PROJECTION, TEXT])
@pytest.mark.parametrize("how", ["half", "lfs", "gone"])
def test_damaged_weights_are_named(karlo: Path, weights: str, how: str) -> None:
    path = karlo / weights
    if how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "lfs":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    else:
        path.unlink()
    assert str(path.parent) in refusal(karlo, ModelError)


@pytest.mark.parametrize(
    ("weights", "tensor"),
    [
        (DECODER, "conv_in.weight"),
        (PROJECTION, "embedding_proj.bias"),
        (TEXT, "text_projection.weight"),
        ("prior/diffusion_pytorch_model.safetensors", "clip_mean"),
    ],
)
def test_a_tensor_that_is_missing_is_never_made_up(karlo: Path, weights: str, tensor: str) -> None:
    drop(karlo / weights, tensor)
    message = refusal(karlo, ModelError)
    assert tensor in message
    assert str((karlo / weights).parent) in message


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("decoder/config.json", {"block_out_channels": [16, 64]}),
        ("decoder/config.json", {"_class_name": "UNet2DModel"}),
        ("super_res_last/config.json", {"in_channels": 8}),
        ("text_proj/config.json", {"time_embed_dim": 65}),
        ("text_proj/config.json", {"time_embed_dim": "wide"}),
        ("text_encoder/config.json", {"projection_dim": 16}),
        ("decoder_scheduler/scheduler_config.json", {"variance_type": "learned_range", "num_train_timesteps": "many"}),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(karlo: Path, file: str, changes: dict[str, object]) -> None:
    path = karlo / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert str(path.parent) in refusal(karlo, ModelError)


SIZED = (
    "starter/decoder",
    "starter/super_resolution",
    "karlo/decoder",
    "karlo/super_res_first",
    "kandinsky/unet",
    "stable/unet",
)


@pytest.mark.parametrize("size", [None, "wide", [8, 8], 0, -8, 8.5, True, 10**9])
@pytest.mark.parametrize("sized", SIZED)
def test_a_size_that_is_no_size_is_named(
    folders: dict[str, Path], encoder: Encoder, tmp_path: Path, sized: str, size: object
) -> None:
    layout, part = sized.split("/")
    copy = tmp_path / layout
    copy.mkdir()
    for each in folders[layout].iterdir():
        (copy / each.name).symlink_to(each)
    (copy / part).unlink()
    shutil.copytree(folders[layout] / part, copy / part)
    path = copy / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sample_size": size}))
    prior = {"prior": str(folders[PRIORS[layout]])} if layout in PRIORS else {}
    message = refusal(copy, ModelError, encoder=encoder, **prior)
    assert str(path) in message
    assert f"sample_size is {size!r}" in message


@pytest.mark.parametrize("name", [["PNDMScheduler"], {"a": 1}, None, 3])
def test_a_schedule_whose_class_is_no_name_is_refused(folders: dict[str, Path], tmp_path: Path, name: object) -> None:
    copy = Path(shutil.copytree(folders["stable"], tmp_path / "stable"))
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": name}))
    assert str(path.parent) in refusal(copy, ModelError, prior=str(folders["karlo"]))


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "prior_scheduler", "super_res_first"])
def test_a_part_that_is_missing_is_named(karlo: Path, part: str) -> None:
    shutil.rmtree(karlo / part)
    assert str(karlo / part) in refusal(karlo, ModelError)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_configuration_that_is_no_json_object_is_named(karlo: Path, text: str) -> None:
    for file in ("prior/config.json", "model_index.json"):
        before = (karlo / file).read_text()
        (karlo / file).write_text(text)
        assert str(karlo / file) in refusal(karlo, ModelError)
        (karlo / file).write_text(before)


def test_a_decoder_without_the_variance_that_its_schedule_wants_is_refused(karlo: Path) -> None:
    schedule = karlo / "super_res_scheduler" / "scheduler_config.json"
    shutil.copy(schedule, karlo / "decoder_scheduler" / "scheduler_config.json")
    assert load_generator(str(karlo), device="cpu").card.layout == "karlo"  # its variance is then left aside
    path = karlo / "decoder" / "config.json"
    config = json.loads(path.read_text())
    tensors = load_file(karlo / DECODER)
    for name in ("conv_out.weight", "conv_out.bias"):
        tensors[name] = tensors[name][:3].clone()
    save_file(tensors, karlo / DECODER, metadata={"format": "pt"})
    path.write_text(json.dumps({**config, "out_channels": 3}))
    assert imagine(Request((Part("a"),)), generator=load_generator(str(karlo), device="cpu")).pixels.any()
    schedule = karlo / "decoder_scheduler" / "scheduler_config.json"
    schedule.write_text(json.dumps({**json.loads(schedule.read_text()), "variance_type": "learned_range"}))
    assert "variance" in refusal(karlo, ModelError)


def test_weights_in_several_files_are_read_and_checked(karlo: Path) -> None:
    tensors = load_file(karlo / DECODER)
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, karlo / "decoder" / shard, metadata={"format": "pt"})
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    whole = karlo / DECODER
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps(index))
    whole.unlink()
    assert load_generator(str(karlo), device="cpu").card.layout == "karlo"
    torch.save({"a": torch.zeros(1)}, karlo / "decoder" / "a.safetensors")
    refusal(karlo, UnsafeWeights)
    (karlo / "decoder" / "a.safetensors").unlink()
    assert "a.safetensors" in refusal(karlo, ModelError)


class Told:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def index_of(weights: Path, shard: object) -> dict[str, object]:
    """Make an index that finds all tensors of a file in a shard."""
    return {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(load_file(weights), shard)}


@pytest.mark.parametrize(
    ("weights", "index"),
    [
        (DECODER, "diffusion_pytorch_model.safetensors.index.json"),
        (TEXT, "model.safetensors.index.json"),
        (DECODER, "diffusion_pytorch_model.safetensors.index.fp16.json"),
        (DECODER, "diffusion_pytorch_model.safetensors.fp16.index.json"),
        (DECODER, "diffusion_pytorch_model.fp16.safetensors.index.json"),
    ],
)
def test_an_index_beside_whole_weights_does_not_bring_a_pickle_in(karlo: Path, weights: str, index: str) -> None:
    safe = karlo / weights
    (safe.parent / index).write_text(json.dumps(index_of(safe, "evil.bin")))
    torch.save({"conv_in.bias": Told(karlo / "ran")}, safe.parent / "evil.bin")
    if "fp16" in index:
        safe = safe.rename(safe.with_suffix(".fp16.safetensors"))
    message = refusal(karlo, ModelError)
    assert index in message
    assert safe.name in message
    safe.unlink()
    assert "evil.bin" in refusal(karlo, UnsafeWeights)
    assert not (karlo / "ran").exists()


def test_weights_of_another_library_are_not_checked_in_place_of_those_that_are_read(karlo: Path) -> None:
    shutil.copy(karlo / DECODER, karlo / "text_encoder" / "diffusion_pytorch_model.safetensors")
    torch.save({"a": torch.zeros(3)}, karlo / TEXT)
    refusal(karlo, UnsafeWeights)


def test_weights_that_a_configuration_chooses_are_refused(karlo: Path) -> None:
    path = karlo / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "transformers_weights": "evil.safetensors.index.json"}))
    message = refusal(karlo, ModelError)
    assert "transformers_weights" in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("shard", "kind"),
    [
        ("evil.bin", UnsafeWeights),
        ("evil.gguf", ModelError),
        ("../prior/diffusion_pytorch_model.safetensors", ModelError),
        ("/etc/passwd", ModelError),
        ("", ModelError),
        (7, ModelError),
        (None, ModelError),
        (["a.safetensors"], ModelError),
    ],
)
def test_shards_are_safetensors_files_of_the_folder(karlo: Path, shard: object, kind: type[Exception]) -> None:
    whole = karlo / DECODER
    for name in ("evil.bin", "evil.gguf"):
        shutil.copy(whole, whole.parent / name)  # a safe content does not make up for the name: it decides who reads it
    index = whole.with_name(f"{whole.name}.index.json")
    index.write_text(json.dumps(index_of(whole, shard)))
    whole.unlink()
    message = refusal(karlo, kind)
    assert str(shard) in message
    assert str(index.parent) in message


@pytest.mark.parametrize(
    "content", [{}, {"weight_map": ["a"]}, {"weight_map": 3}, {"weight_map": None}, {"weight_map": {}}]
)
def test_an_index_without_a_map_is_named(karlo: Path, content: dict[str, object]) -> None:
    whole = karlo / DECODER
    index = whole.with_name(f"{whole.name}.index.json")
    index.write_text(json.dumps(content))
    whole.unlink()
    message = refusal(karlo, ModelError)
    assert str(index) in message
    assert "weight_map" in message


def test_the_hash_is_of_the_weights_that_are_loaded(tmp_path: Path) -> None:
    elsewhere, model = tmp_path / "elsewhere", tmp_path / "model"
    for folder in (elsewhere, model / "prior"):
        folder.mkdir(parents=True)
    (elsewhere / "a.safetensors").write_bytes(b"1")
    (model / "decoder").symlink_to(elsewhere)
    hashes = [hash_weights([model])]
    for path, counts in (
        (elsewhere / "a.safetensors", True),
        (model / "prior" / "b.safetensors", True),
        (model / "prior" / "b.safetensors.index.json", True),
        (model / "prior" / "config.json", False),
        (model / "whole.safetensors", False),  # a checkpoint for other programs: no part
    ):
        path.write_bytes(b"2")
        hashes.append(hash_weights([model]))
        assert (hashes[-1] != hashes[-2]) is counts


def test_half_precision_files_are_read_where_there_are_no_others(karlo: Path) -> None:
    for weights in (DECODER, PROJECTION, TEXT):
        path = karlo / weights
        half = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(half, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    generator = load_generator(str(karlo), device="cpu")
    assert imagine(Request((Part("a bus"),)), generator=generator).pixels.shape == (1, 32, 32, 3)


def test_unknown_names_say_what_to_do(tmp_path: Path) -> None:
    message = refusal("kakaobrain/karlo-v1-alpha", ModelNotFound, cache_dir=tmp_path)
    assert f"not cached in {tmp_path}" in message
    assert "hf download kakaobrain/karlo-v1-alpha" in message
    for name in ("", "karlo", "/nowhere/at/all", "./a/b"):
        assert "folder" in refusal(name, ModelNotFound, cache_dir=tmp_path)
    assert "unclip.json" in refusal(tmp_path, ModelError)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert "FluxPipeline" in refusal(tmp_path, ModelError)


def test_a_cached_model_needs_no_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    base = tmp_path / "models--kakaobrain--karlo-v1-alpha"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folders["karlo"], base / "snapshots" / ("0" * 40))
    generator = load_generator("kakaobrain/karlo-v1-alpha", device="cpu", cache_dir=tmp_path)
    assert generator.embed_texts(["a"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("layout", "part"),
    [("kandinsky", "unet"), ("kandinsky", "movq"), ("stable", "vae"), ("stable", "image_normalizer")],
)
def test_pickles_and_missing_parts_of_pipelines_are_refused(
    folders: dict[str, Path], tmp_path: Path, layout: str, part: str
) -> None:
    prior = folders["kandinsky_prior" if layout == "kandinsky" else "karlo"]
    copy = Path(shutil.copytree(folders[layout], tmp_path / layout))
    path = copy / part / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    assert part in refusal(copy, UnsafeWeights, prior=str(prior))
    shutil.rmtree(copy / part)
    assert str(copy / part) in refusal(copy, ModelError, prior=str(prior))


def test_a_prior_that_is_not_cached_is_asked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    usual = {"kandinsky": "kandinsky-community/kandinsky-2-2-prior", "stable": "kakaobrain/karlo-v1-alpha"}
    for layout, prior in usual.items():
        assert f"hf download {prior}" in refusal(folders[layout], ModelNotFound, cache_dir=tmp_path)


def test_a_device_that_is_not_there_is_refused(folders: dict[str, Path]) -> None:
    for device in ("cuda:77", "abacus"):
        assert device in refusal(folders["karlo"], InvalidSettings, device=device)


@dataclass
class OtherEncoder:
    """An encoder of another space."""

    space: Space
    encode_texts: Callable[..., RawEmbeddings]
    encode_pixels: Callable[..., RawEmbeddings]
    logit_scale: float = 100.0


def test_the_starter_wants_the_encoder_that_it_was_trained_with(
    folders: dict[str, Path], encoder: Encoder, tmp_path: Path
) -> None:
    assert "encoder" in refusal(folders["starter"], ModelError)
    other = OtherEncoder(
        Space("other", 256, Sha256("c" * 64), PixelSpec(16)), encoder.encode_texts, encoder.encode_pixels
    )
    with pytest.raises(SpaceMismatch, match=encoder.space.id):
        load_generator(str(folders["starter"]), encoder=other, device="cpu")
    folder = starter_models.save(tmp_path / "wide", space=encoder.space.id, dimension=128)
    with pytest.raises(SpaceMismatch, match="128 dimensions"):
        load_generator(str(folder), encoder=encoder, device="cpu")


def test_a_pickle_in_the_starters_layout_is_refused(folders: dict[str, Path], encoder: Encoder, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["starter"], tmp_path / "copy"))
    for part in ("prior", "decoder", "super_resolution"):
        path = copy / part / "diffusion_pytorch_model.safetensors"
        moved = path.rename(path.with_suffix(".bin"))
        assert part in refusal(copy, UnsafeWeights, encoder=encoder)
        moved.rename(path)
