"""What is told of the starter's generator without loading it, and whether diffusers is fit to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from phosphene.encoders import Encoder
from phosphene.errors import ModelError, SpaceMismatch, UnsafeWeights
from phosphene.types import PixelSpec, Sha256, Space
from phosphene.unclip.inspection import inspect_starter
from phosphene.unclip.loading import load_generator
from tests.unclip import starter_models

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["starter"], tmp_path / "copy"))


def test_it_tells_the_size_that_the_loaded_one_draws(copy: Path, encoder: Encoder) -> None:
    for model, folder in ((str(copy), copy), ("starter", Path("phosphene/starter/unclip").absolute())):
        loaded = load_generator(model, encoder=encoder, device="cpu")
        assert inspect_starter(folder, space=encoder.space) == loaded.card.sizes[0]


def test_a_folder_of_another_space_is_told(copy: Path, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(SpaceMismatch, match=encoder.space.id):
        inspect_starter(copy, space=Space("other", 256, Sha256("c" * 64), PixelSpec(16)))
    narrow = starter_models.save(tmp_path / "narrow", space=encoder.space.id, dimension=128)
    with pytest.raises(SpaceMismatch, match="128 dimensions"):
        inspect_starter(narrow, space=encoder.space)


@pytest.mark.parametrize("part", ["prior", "decoder", "super_resolution"])
def test_a_damaged_folder_is_told_as_by_loading_it(copy: Path, encoder: Encoder, part: str) -> None:
    def refusal(kind: type[ModelError]) -> None:
        for look in (
            lambda: inspect_starter(copy, space=encoder.space),
            lambda: load_generator(str(copy), encoder=encoder, device="cpu"),
        ):
            with pytest.raises(kind, match=part):
                look()

    weights, config = copy / part / WEIGHTS, copy / part / "config.json"
    whole, said = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[:-100])
    refusal(ModelError)
    weights.rename(weights.with_suffix(".bin"))
    refusal(UnsafeWeights)
    weights.with_suffix(".bin").unlink()
    refusal(ModelError)
    weights.write_bytes(whole)
    config.write_text(json.dumps({**json.loads(said), "_class_name": "AutoencoderKL"}))
    refusal(ModelError)
    config.unlink()
    refusal(ModelError)
    config.write_text(said)
    shutil.rmtree(copy / f"{part}_scheduler")
    refusal(ModelError)


def installed_in(folder: Path) -> Path:
    """Install diffusers there once more, each file a link."""
    found = distribution("diffusers")
    for file in found.files or ():
        if file.parts[0] not in ("..", "/") and file.locate().is_file():  # type: ignore[attr-defined]  # it is a path
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(str(file.locate()))
    return folder


def required(*before: str, path: Path | None = None) -> str:
    """Ask for diffusers in a process of its own; give what it says is wrong."""
    lines = ["import sys", *before, "from phosphene.unclip.inspection import require_diffusers", "require_diffusers()"]
    lines += ["assert 'diffusers.models.unets.unet_2d' not in sys.modules"]
    where = os.pathsep.join([*([str(path)] if path else []), str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        check=False,
        env={**os.environ, "PYTHONPATH": where},
        capture_output=True,
        text=True,
    )
    return ran.stderr.strip().splitlines()[-1] if ran.returncode else ""


def test_an_installation_of_diffusers_that_is_not_whole_is_told(tmp_path: Path) -> None:
    assert required() == ""
    copied = installed_in(tmp_path)
    network = copied / "diffusers" / "models" / "unets" / "unet_2d.py"
    assert network.is_file()
    network.unlink()
    assert f"{network} is missing; install it again" in required(path=copied)
    network.write_text("cut off")
    assert f"{network} was changed; install it again" in required(path=copied)
    assert "can't be imported" in required("sys.modules['huggingface_hub'] = None")
