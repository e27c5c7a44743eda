"""Pictures with captions, as in Flickr30k and COCO: whether captions find their pictures, and pictures their captions.

The protocol is that of the OpenCLIP tables (LAION-AI/CLIP_benchmark, metrics/zeroshot_retrieval.py): every caption is
asked as it stands, without a template, against all pictures; every picture against all captions. Recall@k is the share
of questions with a right answer among the first k: of a caption its picture, of a picture any of its captions.

Files that are read: Karpathy's JSON (dataset_flickr30k.json, dataset_coco.json: `--split`, "test" by default), COCO's
annotations (captions_val2014.json), and CSV with a row for each caption (or a JSON list of them in `raw`), separated by
commas, tabs, semicolons or bars.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from phosphene.errors import InvalidInput
from phosphene.evaluation.ranking import DEPTHS, mean_interval
from phosphene.nomatch.curves import Interval
from phosphene.nomatch.logistic import Integers
from phosphene.types import Float32

_FILE_COLUMNS = ("filename", "file_name", "filepath", "image", "image_name", "file", "path", "image_path")
_CAPTION_COLUMNS = ("caption", "raw", "comment", "title", "text", "sentence")
_SPLIT_COLUMN = "split"
_SEPARATORS = "\t|;,"  # the first that the header has
_AT_ONCE = 512  # questions compared with everything at a time


@dataclass(frozen=True, slots=True)
class CaptionedPicture:
    """A picture file, by its name in the list, and what is said about it."""

    file: str
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptionReport:
    """Recall@1, @5 and @10, each 0..1, in both directions."""

    pictures: int
    captions: int
    text_to_image: Mapping[int, Interval]  # by depth
    image_to_text: Mapping[int, Interval]


def read_captions(path: Path, *, split: str | None = None, most: int | None = None) -> list[CaptionedPicture]:
    """Read a file of captions; of each picture the first `most`, by default all, as CLIP_benchmark does.

    `split` chooses those of one part; "test" where the file has parts and none is named. Raises InvalidInput.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"captions {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        rows = list(_json_rows(json.loads(text), path) if text.lstrip().startswith("{") else _csv_rows(text, path))
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InvalidInput(f"captions {path}: not as Karpathy's or COCO's JSON, nor CSV ({error})") from error
    parts = {part for _, _, part in rows if part}
    wanted = split or ("test" if parts else None)
    if wanted is not None and wanted not in parts:
        there = ", ".join(sorted(parts)) or "none"
        raise InvalidInput(f"captions {path}: there is no split {wanted!r}; splits: {there}")
    found: dict[str, list[str]] = {}
    for file, captions, part in rows:
        if wanted is None or part == wanted:
            found.setdefault(file, []).extend(caption for caption in captions if caption.strip())
    pictures = [CaptionedPicture(file, tuple(captions[:most])) for file, captions in found.items() if captions]
    if not pictures:
        raise InvalidInput(f"captions {path}: no picture has a caption")
    return pictures


_Row = tuple[str, Sequence[str], str | None]  # file, captions, split


def _json_rows(content: Mapping[str, Any], path: Path) -> Iterable[_Row]:
    if "annotations" in content:
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        return [(files[one["image_id"]], [str(one["caption"])], None) for one in content["annotations"]]
    if "images" not in content:
        raise InvalidInput(f"captions {path}: JSON of captions has images")
    return [
        (
            str(PurePosixPath(image.get("filepath", "")) / image["filename"]),
            [str(sentence["raw"]) for sentence in image["sentences"]],
            image.get("split"),
        )
        for image in content["images"]
    ]


def _csv_rows(text: str, path: Path) -> Iterable[_Row]:
    header = text.partition("\n")[0]
    separator = next((sign for sign in _SEPARATORS if sign in header), ",")
    reader = csv.DictReader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
    file_column = next((columns[name] for name in _FILE_COLUMNS if name in columns), None)
    caption_column = next((columns[name] for name in _CAPTION_COLUMNS if name in columns), None)
    if file_column is None or caption_column is None:
        raise InvalidInput(
            f"captions {path}: columns {', '.join(columns) or 'none'}; needed are one of {', '.join(_FILE_COLUMNS)} "
            f"and one of {', '.join(_CAPTION_COLUMNS)}"
        )
    split_column = columns.get(_SPLIT_COLUMN)
    for row in reader:
        caption = (row[caption_column] or "").strip()
        listed = json.loads(caption) if caption.startswith('["') else [caption]
        yield (row[file_column] or "").strip(), listed, row[split_column] if split_column else None


def find_files(pictures: Sequence[CaptionedPicture], folder: Path) -> list[Path]:
    """Find each picture's file below a folder: where the list says, or else by its file name right in the folder.

    Raises InvalidInput, which names one that is missing.
    """
    found = []
    for picture in pictures:
        candidates = (folder / picture.file, folder / PurePosixPath(picture.file).name)
        file = next((one for one in candidates if one.is_file()), None)
        if file is None:
            raise InvalidInput(f"{folder} has no {picture.file}: is it the folder of the pictures?")
        found.append(file)
    return found


def score_captions(pictures: Float32, captions: Float32, owner: Integers) -> CaptionReport:
    """Score picture rows (n, d) against caption rows (m, d), all of length 1; caption i is of picture owner[i].

    Intervals are over pictures: captions of one are drawn together.
    """
    own = best_ranks(captions, pictures, [np.array([one]) for one in owner])
    of_picture = [np.flatnonzero(owner == place) for place in range(len(pictures))]
    any_own = best_ranks(pictures, captions, of_picture)
    return CaptionReport(
        pictures=len(pictures),
        captions=len(captions),
        text_to_image={depth: mean_interval((own <= depth).astype(np.float64), owner) for depth in DEPTHS},
        image_to_text={depth: mean_interval((any_own <= depth).astype(np.float64)) for depth in DEPTHS},
    )


def best_ranks(questions: Float32, answers: Float32, right: Sequence[Integers]) -> Integers:
    """Give the rank, from 1, of each question's best right answer: (n,) for questions (n, d) and answers (m, d).

    Of equal scores the earlier answer comes first.
    """
    ranks = np.empty(len(questions), dtype=np.int64)
    for start in range(0, len(questions), _AT_ONCE):
        scores = questions[start : start + _AT_ONCE] @ answers.T
        for row, score in enumerate(scores):
            mine = right[start + row]
            best = mine[np.argmax(score[mine])]
            better = np.count_nonzero(score > score[best])
            ranks[start + row] = 1 + better + np.count_nonzero(score[:best] == score[best])
    return ranks
