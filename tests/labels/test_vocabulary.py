from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phosphene.errors import InvalidInput
from phosphene.labels.labeller import softmax
from phosphene.labels.vocabulary import MAX_LABEL, SUBJECT, Vocabulary, bundled, checked_labels

KINDS = ("subject", "medium", "style", "colours", "setting", "mood")


def test_the_bundled_vocabulary_says_its_licence_and_has_every_kind() -> None:
    shipped = bundled()
    assert shipped.kinds == KINDS
    assert shipped.licence == "CC0-1.0"
    assert "written for Phosphene" in shipped.source
    assert {"cat", "fruit", "guitar"} <= set(shipped.subjects)


def test_a_file_of_lines_replaces_the_subjects_only(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("\ufeff# my words\ncat\n\n  old   boat \n", encoding="utf-8")
    own = Vocabulary.read(file)
    assert own.subjects == ("cat", "old boat")
    assert own.words["mood"] == bundled().words["mood"]


def test_a_toml_file_replaces_the_kinds_that_it_has(tmp_path: Path) -> None:
    file = tmp_path / "words.toml"
    file.write_text(
        'licence = "mine"\n[words]\nsubject = ["axolotl"]\nera = ["1920s"]\n[sentences]\nera = ["from the {}"]'
    )
    own = Vocabulary.read(file)
    assert (own.licence, own.subjects, own.words["era"]) == ("mine", ("axolotl",), ("1920s",))
    assert own.sentences_of("era").templates == ("from the {}",)
    assert own.words["mood"] == bundled().words["mood"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[words]\nsubject = [1]", b"[words]\nsubject = 3", b"words = 1", b"[sentences]\nmood = ['x']"],
)
def test_a_file_that_is_none_is_refused_with_its_name(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "words.toml"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"words\.toml"):
        Vocabulary.read(file)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([], "1 to 3 labels"),
        (["a", "b", "c", "d"], "not 4"),
        (["a", "  "], "label 1 is no text"),
        (["a", 3], "label 1 is no text"),
        (["a\x00b"], "no text"),
        (["\x1b[31mred"], "no text"),
        (["\ud800"], "no text"),
        (["x" * (MAX_LABEL + 1)], "201 characters"),
        (["a  b", "a b"], "named twice"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels: list[object], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        checked_labels(labels, most=3)


@given(st.lists(st.text(max_size=MAX_LABEL), max_size=8))
def test_labels_are_refused_or_come_out_plain_and_in_order(labels: list[str]) -> None:
    try:
        checked = checked_labels(labels, most=8)
    except InvalidInput:
        return
    assert list(checked) == [" ".join(label.split()) for label in labels]
    assert checked_labels(checked, most=8) == checked


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=9))
def test_shares_add_up_and_keep_the_order(logits: list[float]) -> None:
    (shares,) = softmax(np.array([logits]))
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares[np.argsort(logits)]) >= 0).all()
    assert KINDS[0] == SUBJECT
