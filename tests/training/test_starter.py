"""The shipped starter is an ordinary open_clip folder, and finds what is asked in the shipped demo catalogue."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

STARTER = Path(__file__).resolve().parents[2] / "phosphene" / "starter"
WEIGHTS = STARTER / "clip" / "open_clip_model.safetensors"
CATALOGUE = STARTER / "demo" / "catalogue.tar"
GOLDEN = STARTER / "demo" / "golden.jsonl"


@dataclass(frozen=True)
class Loaded:
    """What open_clip makes of the folder."""

    model: open_clip.CLIP
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[[list[str]], Tensor]


@pytest.fixture(scope="module")
def starter() -> Loaded:
    name = f"local-dir:{STARTER / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    return Loaded(model.eval(), preprocess, open_clip.get_tokenizer(name))


@pytest.fixture(scope="module")
def catalogue() -> dict[str, bytes]:
    with tarfile.open(CATALOGUE) as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        return {name: member.read() for name, member in members.items() if member is not None}


def test_weights_are_small_enough_to_ship_and_readable_by_everyone() -> None:
    assert WEIGHTS.stat().st_size <= 45e6
    assert stat.S_IMODE(WEIGHTS.stat().st_mode) & 0o444 == 0o444


def test_pictures_of_any_shape_are_kept_whole_on_white(starter: Loaded) -> None:
    tensor = starter.preprocess(Image.new("RGB", (300, 100), "red"))
    assert tensor.shape == (3, 160, 160)
    assert tensor[:, 0, 0].tolist() == [1, 1, 1]
    assert tensor[:, 80, 0].tolist() == [1, -1, -1]
    assert tensor[:, 80, 159].tolist() == [1, -1, -1]


def test_each_picture_of_the_demo_has_its_metadata(catalogue: dict[str, bytes]) -> None:
    names = [name.removesuffix(".webp") for name in catalogue if name.endswith(".webp")]
    assert len(names) >= 1000
    assert len(catalogue) == 2 * len(names)
    for name in names:
        metadata = json.loads(catalogue[f"{name}.json"])
        assert metadata["title"].strip()
        assert metadata["category"]
        assert metadata["licence"] == "Public Domain"
        assert all(isinstance(keyword, str) for keyword in metadata["keywords"])
        assert isinstance(metadata.get("year", 2005), int)


def test_the_demo_was_packed_the_same_way_everywhere() -> None:
    with tarfile.open(CATALOGUE) as tar:
        members = tar.getmembers()
    assert {(member.mtime, member.uid, member.mode) for member in members} == {(1_735_689_600, 0, 0o644)}


def test_golden_queries_name_pictures_of_the_demo(catalogue: dict[str, bytes]) -> None:
    entries = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    assert len(entries) >= 40
    for entry in entries:
        assert entry["relevant"], entry["query"]
        assert set(entry["relevant"]) <= catalogue.keys(), entry["query"]


def test_golden_queries_find_their_pictures(starter: Loaded, catalogue: dict[str, bytes]) -> None:
    names = [name for name in catalogue if name.endswith(".webp")]
    entries = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    with torch.inference_mode():
        parts = []
        for start in range(0, len(names), 64):
            images = (Image.open(io.BytesIO(catalogue[name])) for name in names[start : start + 64])
            batch = torch.stack([starter.preprocess(image.convert("RGB")) for image in images])
            parts.append(functional.normalize(starter.model.encode_image(batch), dim=-1))
        tokens = starter.tokenizer([entry["query"] for entry in entries])
        queries = functional.normalize(starter.model.encode_text(tokens), dim=-1)
    best = (queries @ torch.cat(parts).T).topk(10).indices.tolist()
    found = [any(names[row] in entry["relevant"] for row in rows) for rows, entry in zip(best, entries, strict=True)]
    assert sum(found) / len(found) >= 0.9
