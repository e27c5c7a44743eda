"""Zero-shot classification: folders and labels, scores against brute force, OpenCLIP's words for ImageNet."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from phosphene.encoders import PromptTemplates, imagenet_prompts
from phosphene.errors import InvalidInput
from phosphene.evaluation.classification import read_folder, score_classes


def _folder(home: Path, **classes: int) -> Path:
    for name, count in classes.items():
        (home / name).mkdir(parents=True)
        for number in range(count):
            (home / name / f"{number}.jpg").write_bytes(b"")
    return home


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    home = _folder(tmp_path / "set", red_fox=2, arctic_fox=1, empty=0)
    (home / "red_fox" / "notes.txt").write_text("no picture")
    (home / ".hidden").mkdir()
    found = read_folder(home)
    assert found.folders == ("arctic_fox", "empty", "red_fox")
    assert found.labels == ("arctic fox", "empty", "red fox")
    assert [file.name for file in found.files] == ["0.jpg", "0.jpg", "1.jpg"]
    assert found.classes == (0, 2, 2)
    assert found.templates == PromptTemplates()


def test_labels_and_sentences_can_be_given(tmp_path: Path) -> None:
    home = _folder(tmp_path / "set", n01=1, n02=1)
    labels, sentences = tmp_path / "labels", tmp_path / "sentences"
    sentences.write_text("a photo of a {}.\n\n{} outdoors\n")
    for text in (
        json.dumps({"n01": "tench, Tinca tinca", "n02": "goldfish"}),
        "n01 tench, Tinca tinca\nn02 goldfish\n",
        json.dumps(["tench", "goldfish"]),
    ):
        labels.write_text(text)
        found = read_folder(home, labels=labels, templates=sentences)
        assert found.labels == ("tench", "goldfish")
        assert found.templates.templates == ("a photo of a {}.", "{} outdoors")
    for text, said in (
        ("n01 tench\n", "none for the folder 'n02'"),
        ('["tench"]', "1 labels for 2 folders"),
        ("{", "labels"),
    ):
        labels.write_text(text)
        with pytest.raises(InvalidInput, match=re.escape(said)):
            read_folder(home, labels=labels)
    with pytest.raises(InvalidInput, match="needs two folders with pictures"):
        read_folder(_folder(tmp_path / "one", only=3))
    with pytest.raises(InvalidInput, match="is no folder"):
        read_folder(tmp_path / "nowhere")


def test_the_thousand_folders_of_imagenet_get_open_clips_words(tmp_path: Path) -> None:
    names, sentences = imagenet_prompts()
    assert (len(names), len(sentences)) == (1000, 80)
    assert (names[0], names[1], names[999]) == ("tench", "goldfish", "toilet paper")
    assert "itap of a {}." in sentences
    home = _folder(tmp_path / "val", **{f"n{number:08}": 1 for number in range(1000)})
    found = read_folder(home)
    assert found.labels == names
    assert found.templates.templates == sentences


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(6, 12), st.integers(10, 60))
def test_accuracies_are_those_of_scikit_learn(seed: int, classes: int, pictures: int) -> None:
    random = np.random.default_rng(seed)
    names = random.normal(size=(classes, 5)).astype(np.float32)
    truth = np.concatenate([np.arange(classes), random.integers(0, classes, pictures)])
    rows = (names[truth] + 1.5 * random.normal(size=(len(truth), 5))).astype(np.float32)
    report = score_classes(rows, truth, names, [f"class {number}" for number in range(classes)])
    scores = rows @ names.T
    assert report.accuracy_at_1.value == pytest.approx(top_k_accuracy_score(truth, scores, k=1))
    assert report.accuracy_at_5.value == pytest.approx(top_k_accuracy_score(truth, scores, k=5))
    assert report.mean_per_class.value == pytest.approx(balanced_accuracy_score(truth, scores.argmax(axis=1)))
    assert (report.pictures, report.classes) == (len(truth), classes)
    assert [one.accuracy for one in report.worst] == sorted(one.accuracy for one in report.worst)
    weakest = report.worst[0]
    number = int(weakest.label.removeprefix("class "))
    assert weakest.accuracy == pytest.approx(float((scores.argmax(axis=1)[truth == number] == number).mean()))
    assert (weakest.mistaken_for is None) is (weakest.accuracy == 1)
