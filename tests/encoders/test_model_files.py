"""Naming models, and what is said when one can't be had."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from phosphene.encoders import describe_models, load_encoder
from phosphene.errors import ModelError, ModelNotFound, UnsafeWeights
from phosphene.model_files import find_model
from phosphene.open_clip_models import OpenClipArchitectures
from tests.encoders.checkpoints import SMALL_CLIP, save_model

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("named") / "mine", SMALL_CLIP)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An address where nobody listens, and an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "cache"


def refusal(model: str, kind: type[ModelError], cache_dir: Path | None = None) -> str:
    with pytest.raises(kind) as caught:
        load_encoder(model, cache_dir=cache_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def find(model: str) -> Path:
    return find_model(model, architectures=OpenClipArchitectures()).weights


def test_a_local_model_has_several_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for name in (str(folder), "mine", "./mine/", f"{folder}/{WEIGHTS}", f"mine/{WEIGHTS}"):
        assert find(name).samefile(folder / WEIGHTS)
    assert find(f"ViT-B-32/{folder / WEIGHTS}").samefile(folder / WEIGHTS)
    assert find(f"ViT-B/32/mine/{WEIGHTS}").samefile(folder / WEIGHTS)


def test_a_folder_with_several_weights_asks_which(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    for epoch in ("epoch_1", "epoch_2"):
        (tmp_path / f"{epoch}.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    message = refusal(str(tmp_path), ModelError)
    assert "epoch_1.safetensors, epoch_2.safetensors" in message
    assert find(f"{tmp_path}/epoch_2.safetensors").name == "epoch_2.safetensors"


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_pickles_are_refused_with_the_way_out(folder: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    pickle = tmp_path / f"open_clip_pytorch_model{suffix}"
    torch.save({"a": torch.zeros(3)}, pickle)
    for name in (str(tmp_path), str(pickle), f"ViT-B-32/{pickle}"):
        message = refusal(name, UnsafeWeights)
        assert "can run any code" in message
        assert "save_file" in message


def test_a_pickle_under_a_safe_name_is_refused_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    torch.save({"a": torch.zeros(3)}, tmp_path / WEIGHTS)
    refusal(str(tmp_path), UnsafeWeights)


def test_the_conversion_that_is_advised_works(folder: Path, tmp_path: Path) -> None:
    import shlex
    import subprocess
    import sys

    from safetensors.torch import load_file

    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    state = {f"module.{name}": tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "epoch_3.pt")
    advice = refusal(str(tmp_path), UnsafeWeights)
    command = shlex.split(advice[advice.index("python -c") :])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    (tmp_path / "epoch_3.pt").unlink()
    assert load_encoder(str(tmp_path)).space.dimension == 48


def test_a_pickle_next_to_safe_weights_does_no_harm(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"PK\3\4")
    assert load_encoder(str(tmp_path)).space.dimension == 48


def test_damaged_or_unfitting_weights_are_named(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "open_clip_config.json"
    config.write_text((folder / "open_clip_config.json").read_text())
    good = (folder / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(good[: len(good) // 2])
    assert str(tmp_path / WEIGHTS) in refusal(str(tmp_path), ModelError)
    (tmp_path / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert "downloaded completely" in refusal(str(tmp_path), ModelError)
    save_file({"other": torch.zeros(3)}, tmp_path / WEIGHTS)
    assert str(tmp_path / WEIGHTS) in refusal(str(tmp_path), ModelError)
    (tmp_path / WEIGHTS).write_bytes(good)
    config.write_text("{}")
    assert "open_clip_config.json" in refusal(str(tmp_path), ModelError)
    config.write_text(json.dumps({"model_cfg": {**SMALL_CLIP, "embed_dim": 49}}))
    refusal(str(tmp_path), ModelError)
    config.unlink()
    assert "open_clip_config.json" in refusal(str(tmp_path), ModelNotFound)


def test_models_of_oblong_pictures_are_refused(tmp_path: Path) -> None:
    oblong = {**SMALL_CLIP, "vision_cfg": {**SMALL_CLIP["vision_cfg"], "image_size": [32, 64]}}
    assert "square" in refusal(str(save_model(tmp_path / "oblong", oblong)), ModelError)


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("Vit-B-32/opnai", "did you mean ViT-B-32/openai"),
        ("ViT-B-32", "say which, as in ViT-B-32/openai"),
        ("/nowhere/model.safetensors", "no such file"),
        ("startre", "did you mean starter"),
        ("", "no model is called"),
    ],
)
def test_unknown_names_come_with_a_hint(model: str, hint: str) -> None:
    assert hint in refusal(model, ModelNotFound)


@pytest.mark.parametrize("model", ["ViT-B-32/openai", "ViT-B-16-SigLIP/webli", "hf-hub:someone/something"])
def test_without_network_a_model_that_is_not_cached_says_what_to_do_at_once(no_hub: Path, model: str) -> None:
    started = time.monotonic()
    message = refusal(model, ModelNotFound, cache_dir=no_hub)
    assert time.monotonic() - started < 20  # huggingface_hub alone tries for 24 s a file
    assert all(part in message for part in (model, "PHOSPHENE_MODEL", "hf download", str(no_hub)))


def cache(cache_dir: Path, repository: str, files: dict[str, bytes]) -> None:
    """Lay files into a hub cache as huggingface_hub does."""
    base = cache_dir / f"models--{repository.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("0" * 40)
    snapshot = base / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name, data in files.items():
        (snapshot / name).write_bytes(data)


def test_cached_models_of_the_hub_need_no_network(no_hub: Path, folder: Path) -> None:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    cache(no_hub, "someone/something", files)
    encoder = load_encoder("hf-hub:someone/something", cache_dir=no_hub)
    assert (encoder.space.model, encoder.space.dimension) == ("hf-hub:someone/something", 48)


def test_a_pretrained_tag_brings_its_own_activation_and_preprocessing(no_hub: Path, folder: Path) -> None:
    cache(no_hub, "timm/vit_base_patch32_clip_224.openai", {WEIGHTS: (folder / WEIGHTS).read_bytes()})
    files = find_model("ViT-B-32/openai", architectures=OpenClipArchitectures(), cache_dir=no_hub)
    assert files.model_cfg["quick_gelu"] is True
    assert files.preprocess_cfg["resize_mode"] == "shortest"


def test_a_tokenizer_that_is_missing_is_asked_for(no_hub: Path, tmp_path: Path) -> None:
    config = {**SMALL_CLIP, "text_cfg": {**SMALL_CLIP["text_cfg"], "hf_tokenizer_name": "someone/words"}}
    made = save_model(tmp_path / "mine", config)
    message = refusal(str(made), ModelNotFound, cache_dir=no_hub)
    assert "tokenizer.json" in message
    assert "someone/words" in message


def test_a_text_tower_that_is_missing_is_asked_for(no_hub: Path, folder: Path, tmp_path: Path) -> None:
    config = {**SMALL_CLIP, "text_cfg": {"hf_model_name": "someone/tower", "hf_tokenizer_name": "someone/tower"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    (tmp_path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    assert "config.json" in refusal(str(tmp_path), ModelNotFound, cache_dir=no_hub)


def test_models_are_described_with_what_is_here(no_hub: Path, folder: Path) -> None:
    cache(no_hub, "timm/vit_base_patch32_clip_224.openai", {WEIGHTS: (folder / WEIGHTS).read_bytes()})
    described = {model.name: model for model in describe_models(cache_dir=no_hub)}
    assert next(iter(described)) == "starter"
    assert described["starter"].cached
    assert described["ViT-B-32/openai"].cached
    assert not described["ViT-L-14/openai"].cached
    assert described["ViT-B-16-SigLIP/webli"].repository == "timm/ViT-B-16-SigLIP"
    assert len(described) > 150
