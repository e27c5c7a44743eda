"""Captions against pictures: files as others write them, and ranks against brute force."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.errors import InvalidInput
from phosphene.evaluation.captions import (
    CaptionedPicture,
    best_ranks,
    find_files,
    read_captions,
    score_captions,
)
from phosphene.types import Float32

TWO = [CaptionedPicture("1.jpg", ("a dog", "a brown dog")), CaptionedPicture("2.jpg", ("a cat",))]
KARPATHY = {
    "images": [
        {"filename": "1.jpg", "split": "test", "sentences": [{"raw": "a dog"}, {"raw": "a brown dog"}]},
        {"filename": "3.jpg", "split": "train", "sentences": [{"raw": "a bird"}]},
        {"filename": "2.jpg", "split": "test", "sentences": [{"raw": "a cat"}]},
    ]
}
COCO = {
    "images": [{"id": 7, "file_name": "1.jpg"}, {"id": 9, "file_name": "2.jpg"}],
    "annotations": [
        {"image_id": 7, "caption": "a dog"},
        {"image_id": 9, "caption": "a cat"},
        {"image_id": 7, "caption": "a brown dog"},
    ],
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(KARPATHY),
        json.dumps(COCO),
        "image,caption\n1.jpg,a dog\n1.jpg,a brown dog\n2.jpg,a cat\n",
        "\ufefffilepath\ttitle\n1.jpg\ta dog\n1.jpg\ta brown dog\n2.jpg\ta cat\n",
        "image_name| comment_number| comment\n1.jpg| 0| a dog\n1.jpg| 1| a brown dog\n2.jpg| 0| a cat\n",
        'raw,split,file\n"[""a dog"", ""a brown dog""]",test,1.jpg\n"[""owl""]",val,3.jpg\n"[""a cat""]",test,2.jpg\n',
    ],
    ids=["karpathy", "coco", "csv", "tab", "bars", "lists"],
)
def test_files_are_read_as_others_write_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "captions"
    path.write_text(text, encoding="utf-8")
    assert read_captions(path) == TWO
    first = [CaptionedPicture("1.jpg", ("a dog",)), CaptionedPicture("2.jpg", ("a cat",))]
    assert read_captions(path, most=1) == first


def test_parts_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(KARPATHY))
    assert read_captions(path, split="train") == [CaptionedPicture("3.jpg", ("a bird",))]
    with pytest.raises(InvalidInput, match="no split 'val'; splits: test, train"):
        read_captions(path, split="val")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns none"),
        ("name,words\na,b\n", "columns name, words; needed are one of filename"),
        ("{", "not as Karpathy's"),
        ('{"info": 1}', "JSON of captions has images"),
        ('{"images": [{"filename": "1.jpg"}]}', "not as Karpathy's or COCO's JSON, nor CSV ('sentences')"),
        ("image,caption\n1.jpg,\n", "no picture has a caption"),
    ],
)
def test_what_is_no_file_of_captions_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "captions.txt"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=re.escape(said)):
        read_captions(path)
    with pytest.raises(InvalidInput, match="No such file"):
        read_captions(tmp_path / "none")


def test_pictures_are_found_below_the_folder_or_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    for place in ("val2014/1.jpg", "2.jpg"):
        (tmp_path / place).write_bytes(b"")
    asked = [CaptionedPicture("val2014/1.jpg", ("x",)), CaptionedPicture("val2014/2.jpg", ("y",))]
    assert find_files(asked, tmp_path) == [tmp_path / "val2014/1.jpg", tmp_path / "2.jpg"]
    with pytest.raises(InvalidInput, match=r"has no gone\.jpg: is it the folder"):
        find_files([CaptionedPicture("gone.jpg", ("x",))], tmp_path)


def _rows(count: int, seed: int) -> Float32:
    rows = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=30), st.integers(0, 99))
def test_recall_in_both_directions_is_that_of_sorting_everything(each: list[int], seed: int) -> None:
    owner = np.repeat(np.arange(len(each)), each)
    pictures, captions = _rows(len(each), seed), _rows(len(owner), seed + 1)
    report = score_captions(pictures, captions, owner)
    assert (report.pictures, report.captions) == (len(each), len(owner))
    scores = captions @ pictures.T
    for depth in (1, 5, 10):
        by_text = np.argsort(-scores, axis=1)[:, :depth]
        by_picture = np.argsort(-scores.T, axis=1)[:, :depth]
        text = np.mean([own in found for own, found in zip(owner, by_text, strict=True)])
        image = np.mean([bool((owner[found] == place).any()) for place, found in enumerate(by_picture)])
        assert report.text_to_image[depth].value == pytest.approx(text)
        assert report.image_to_text[depth].value == pytest.approx(image)


def test_of_equal_answers_the_earlier_comes_first() -> None:
    one = np.array([[1, 0]], dtype=np.float32)
    same = np.repeat(one, 3, axis=0)
    assert best_ranks(one, same, [np.array([2])]).tolist() == [3]
    assert best_ranks(one, same, [np.array([1, 2])]).tolist() == [2]
