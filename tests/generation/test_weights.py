"""Whether weights are still the same is told without reading all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phosphene.errors import ModelNotFound
from phosphene.generation.weights import Weights, folders_of
from tests.unclip import published_models

MB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "decoder").mkdir(parents=True)
    (made / "unclip.json").write_text("{}")
    (made / "decoder" / "config.json").write_text('{"a": 1}')
    (made / "decoder" / "model.safetensors").write_bytes(os.urandom(9 * MB))
    return made


def fresh(folder: Path) -> str:
    return Weights().of([folder])


def test_the_same_files_elsewhere_and_of_another_time_are_the_same(folder: Path, tmp_path: Path) -> None:
    import shutil

    before = fresh(folder)
    shutil.copytree(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
    assert fresh(tmp_path / "copy") == before


@pytest.mark.parametrize("at", [0, 8, 4 * MB, 9 * MB - 1])
def test_other_weights_are_others(folder: Path, at: int) -> None:
    """As trained ones are: thousands of bytes differ, from somewhere on."""
    before = fresh(folder)
    path = folder / "decoder" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[at : at + 20_000] = bytes(byte ^ 1 for byte in data[at : at + 20_000])
    path.write_bytes(data)
    assert fresh(folder) != before


def test_a_setting_a_name_and_a_size_count_too(folder: Path) -> None:
    seen = {fresh(folder)}
    (folder / "decoder" / "config.json").write_text('{"a": 2}')
    seen.add(fresh(folder))
    (folder / "decoder" / "model.safetensors").rename(folder / "decoder" / "other.safetensors")
    seen.add(fresh(folder))
    with (folder / "decoder" / "other.safetensors").open("ab") as file:
        file.write(b"1")
    seen.add(fresh(folder))
    assert len(seen) == 4


def test_files_are_read_again_only_when_they_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Weights()
    before = weights.of([folder])
    monkeypatch.setattr("phosphene.generation.weights._look_at", lambda *_: 1 / 0)
    assert weights.of([folder]) == before
    os.utime(folder / "unclip.json", (1, 1))
    with pytest.raises(ZeroDivisionError):
        weights.of([folder])


def test_where_a_generator_lies(tmp_path: Path) -> None:
    starter = tmp_path / "mine"
    starter.mkdir()
    assert folders_of(str(starter), None) == [starter]
    decoder = published_models.save_kandinsky_decoder(tmp_path / "decoder")
    prior = published_models.save_kandinsky_prior(tmp_path / "prior")
    assert folders_of(str(decoder), str(prior)) == [decoder, prior]
    with pytest.raises(ModelNotFound, match="kandinsky-2-2-prior"):
        folders_of(str(decoder), None)
    with pytest.raises(ModelNotFound, match="nowhere"):
        folders_of(str(tmp_path / "nowhere"), None)
