"""Known limits are measured on pictures whose right caption is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene.cli.app import app
from phosphene.encoders import load_encoder
from phosphene.errors import InvalidInput
from phosphene.evaluation.bias import LIMITS, _draw, _ground, _write, disparities, measure_limits, read_people


def test_shapes_and_letters_are_drawn_where_they_are_said_to_be() -> None:
    picture = _ground(120)
    _draw(picture, "circle", (255, 0, 0), (0.25, 0.5), 0.2)
    assert picture[60, 30].tolist() == [255, 0, 0]
    assert picture[60, 90].tolist() == [255, 255, 255]
    assert (picture == [255, 0, 0]).all(axis=2).mean() == pytest.approx(np.pi * 0.2**2, rel=0.05)
    blank = _ground(160)
    _write(blank, "it", 0.0)
    rows = (blank[:, :, 0] == 0).any(axis=1)
    assert rows[:7].all()
    assert 0.05 < (blank[:, :, 0] == 0).mean() < 0.5


def test_each_limit_is_measured_with_its_chance_and_the_same_again() -> None:
    encoder = load_encoder("starter", device="cpu", threads=1)
    found = measure_limits(encoder, each=8)
    assert tuple(one.name for one in found) == LIMITS
    assert [one.chance for one in found] == pytest.approx([0.2, 0.5, 0.5, 0.5, 0.1, 0.5])
    assert all(0 <= one.accuracy.low <= one.accuracy.value <= one.accuracy.high <= 1 for one in found)
    assert measure_limits(encoder, each=8) == found


def test_a_label_that_falls_on_one_group_only_comes_first() -> None:
    names = np.eye(3, dtype=np.float32)
    pictures = names[[0] * 20 + [0] * 10 + [1] * 10]
    first, *others = disparities(pictures, ["a"] * 20 + ["b"] * 20, names, ["x", "y", "z"])
    assert (first.label, first.difference, first.ratio) == ("x", 0.5, 2.0)
    assert [(one.label, one.difference, one.ratio) for one in others] == [("y", 0.5, None), ("z", 0.0, None)]
    assert first.shares["b"].low < 0.5 < first.shares["b"].high


def _people(folder: Path) -> Path:
    for group, grey in (("light", 220), ("dark", 40)):
        (folder / group).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (32, 32), (grey + number, grey, grey)).save(folder / group / f"{number}.png")
    return folder


def test_lists_and_folders_say_the_same_groups(tmp_path: Path) -> None:
    folder = _people(tmp_path / "people")
    files = sorted(folder.rglob("*.png"))
    lines = [json.dumps({"file": str(file.relative_to(tmp_path)), "race": file.parent.name}) for file in files]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    rows = [f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files]
    (tmp_path / "list.csv").write_text("\n".join(["file,race", *rows]))
    expected = sorted(zip(files, [file.parent.name for file in files], strict=True))
    for path in (folder, tmp_path / "list.jsonl", tmp_path / "list.csv"):
        found = read_people(path, by="race")
        assert sorted(zip(found.files, found.groups, strict=True)) == expected
    with pytest.raises(InvalidInput, match="gender"):
        read_people(tmp_path / "list.csv", by="gender")
    (tmp_path / "few.csv").write_text("file,race\na.png,x\n")
    with pytest.raises(InvalidInput, match="two groups"):
        read_people(tmp_path / "few.csv", by="race")


def test_the_command_tells_shares_by_group(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a bright thing\na dark thing\n")
    people = str(_people(tmp_path / "people"))
    asked = ["evaluate", "--people", people, "--people-labels", str(labels), "--json"]
    ran = CliRunner().invoke(app, asked)
    assert ran.exit_code == 0, ran.output
    bias = json.loads(ran.stdout)["bias"]
    assert bias["groups"] == {"dark": 10, "light": 10}
    assert {one["label"] for one in bias["disparities"]} == {"a bright thing", "a dark thing"}
    for one in bias["disparities"]:
        shares = [share["value"] for share in one["shares"].values()]
        assert one["difference"] == pytest.approx(max(shares) - min(shares))
    refused = CliRunner().invoke(app, ["evaluate", "--people-labels", str(labels)])
    assert refused.exit_code != 0
