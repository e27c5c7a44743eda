"""`phosphene evaluate`: what is asked of the catalogue, or of a model alone, what it printed, and what fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from phosphene.cli import output
from phosphene.cli.backend import Backend
from phosphene.decoding import DecoderPool
from phosphene.encoders import Encoder, OpenClipEncoder, PromptTemplates, batch_size_of, load_encoder
from phosphene.errors import InvalidInput
from phosphene.evaluation.bias import LIMITS, PEOPLE_LABELS, disparities, measure_limits, read_people
from phosphene.evaluation.captions import find_files, read_captions, score_captions
from phosphene.evaluation.classification import class_rows, read_folder, read_text, score_classes
from phosphene.evaluation.golden import read_golden
from phosphene.evaluation.pictures import Embedded, embed_files
from phosphene.images import Limits
from phosphene.labels.vocabulary import checked_labels
from phosphene.settings import Settings
from search_api.schemas import (
    BiasOut,
    CaptionsOut,
    EvaluationOut,
    EvaluationRequest,
    GoldenIn,
    IndexRecallIn,
    ZeroShotOut,
)

_TOLD_EVERY = 1000  # pictures
_SHOWN = 8  # files that can't be read

_RECALLS = ("recall@1", "recall@5", "recall@10")
_NAMES = frozenset(
    {
        *_RECALLS,
        "coverage@10",
        "mrr",
        "ndcg@10",
        "match_auroc",
        "accuracy@1",
        "accuracy@5",
        "mean_per_class",
        *(f"text_to_image_{name}" for name in _RECALLS),
        *(f"image_to_text_{name}" for name in _RECALLS),
        *LIMITS,
    }
)
_INDEX_RECALL = re.compile(r"index_recall@\d+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An evaluation as the command line understood it."""

    golden: Path | None
    no_match: bool
    index_recall: bool
    k: int
    questions: int
    zero_shot: Path | None
    labels: Path | None
    templates: Path | None
    captions: Path | None
    images: Path | None
    split: str | None
    captions_each: int | None
    bias: bool
    people: Path | None
    people_by: str
    people_labels: Path | None
    fail_under: Mapping[str, float]
    plot: Path | None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself. Raises InvalidInput."""
        if self.of_model and (self.golden is not None or self.index_recall or self.no_match):
            raise InvalidInput(
                "--zero-shot, --captions and --bias measure a model alone: evaluate the catalogue in another run"
            )
        if (self.captions is None) is not (self.images is None):
            raise InvalidInput("--captions FILE and --images FOLDER go together")
        if (self.labels or self.templates) and self.zero_shot is None:
            raise InvalidInput("--labels and --templates are for --zero-shot FOLDER")
        if (self.split or self.captions_each) and self.captions is None:
            raise InvalidInput("--split and --captions-each are for --captions FILE")
        if self.people_labels is not None and self.people is None:
            raise InvalidInput("--people-labels is for --people")
        if self.plot is not None and not self.plot.absolute().parent.is_dir():
            raise InvalidInput(f"there is no folder {self.plot.absolute().parent} for --plot")

    @property
    def of_model(self) -> bool:
        """Whether a model is measured on pictures of its own, and no catalogue."""
        return self.zero_shot is not None or self.captions is not None or self.bias or self.people is not None

    def request(self) -> EvaluationRequest:
        """Say what to ask the catalogue: golden queries unless only index recall is wanted."""
        golden = None
        if self.golden is not None or self.no_match or not self.index_recall:
            golden = _golden(self.golden)
        recall = IndexRecallIn(k=self.k, questions=self.questions) if self.index_recall else None
        return EvaluationRequest(golden=golden, no_match=self.no_match, index_recall=recall)


def _golden(path: Path | None) -> list[GoldenIn]:
    if path is not None:
        return [GoldenIn.of(query) for query in read_golden(path)]
    output.note("asking the golden queries of the demo catalogue; name a file to ask others")
    with as_file(files("phosphene") / "starter" / "demo" / "golden.jsonl") as bundled:
        return [GoldenIn.of(query) for query in read_golden(bundled)]


def thresholds_of(texts: Sequence[str]) -> dict[str, float]:
    """Read --fail-under: recall@10=0.5, several of them separated by commas. Raises InvalidInput."""
    found: dict[str, float] = {}
    for part in (part.strip() for text in texts for part in text.split(",") if part.strip()):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in _NAMES and not _INDEX_RECALL.fullmatch(name):
            raise InvalidInput(f"--fail-under {part!r}: no figure is called {name!r}; {', '.join(sorted(_NAMES))}")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = -1
        if not equals or not 0 <= found[name] <= 1:
            raise InvalidInput(f"--fail-under {part!r}: write {name}=0.5, a number between 0 and 1")
    return found


def evaluate(
    wanted: Wanted, settings: Settings, *, backend: Callable[[], AbstractContextManager[Backend]]
) -> EvaluationOut:
    """Measure what is wanted. Raises InvalidInput, and what searches and models raise."""
    if wanted.of_model:
        report = _measure_model(wanted, settings)
    else:
        request = wanted.request()  # files are read before a model is loaded for nothing
        with backend() as opened:
            report = opened.evaluate(request)
    missing = wanted.fail_under.keys() - report.metrics().keys()
    if missing:
        measured = ", ".join(report.metrics())
        raise InvalidInput(f"--fail-under {min(missing)} was not measured; measured: {measured}")
    return report


def too_low(report: EvaluationOut, fail_under: Mapping[str, float]) -> list[str]:
    """Say which figures are below what they must be."""
    metrics = report.metrics()
    return [
        f"{name} is {metrics[name].value:.4f}, at least {least:g} is asked for"
        for name, least in fail_under.items()
        if metrics[name].value < least
    ]


def _measure_model(wanted: Wanted, settings: Settings) -> EvaluationOut:
    folder = None
    if wanted.zero_shot is not None:
        folder = read_folder(wanted.zero_shot, labels=wanted.labels, templates=wanted.templates)
    captioned, found = [], list[Path]()
    if wanted.captions is not None and wanted.images is not None:
        captioned = read_captions(wanted.captions, split=wanted.split, most=wanted.captions_each)
        found = find_files(captioned, wanted.images)
    encoder = load_encoder(
        settings.model,
        device=settings.device,
        threads=settings.threads,
        batch_size=settings.batch_size,
        compiler=settings.compile,
    )
    if isinstance(encoder, OpenClipEncoder):
        encoder.find_batch_size()
    report = EvaluationOut(model=encoder.space.model, space=encoder.space.id)
    if folder is not None:
        embedded = _embed(folder.files, encoder, settings)
        classes = np.array(folder.classes)[list(embedded.places)]
        names = class_rows(folder, encoder=encoder)
        scored = score_classes(embedded.rows, classes, names, folder.labels)
        report.zero_shot = ZeroShotOut.of(scored, skipped=len(embedded.failed))
    if captioned:
        embedded = _embed(found, encoder, settings)
        kept = [captioned[place] for place in embedded.places]
        texts = encoder.encode_texts([caption for picture in kept for caption in picture.captions]).unit()
        owner = np.repeat(np.arange(len(kept)), [len(picture.captions) for picture in kept])
        report.captions = CaptionsOut.of(score_captions(embedded.rows, texts.rows, owner), skipped=len(embedded.failed))
    if wanted.bias or wanted.people is not None:
        report.bias = _bias(wanted, encoder, settings)
    return report


def _bias(wanted: Wanted, encoder: Encoder, settings: Settings) -> BiasOut:
    limits = measure_limits(encoder) if wanted.bias else ()
    if wanted.people is None:
        return BiasOut.of(limits, {}, ())
    people = read_people(wanted.people, by=wanted.people_by)
    labels = PEOPLE_LABELS
    if wanted.people_labels is not None:
        labels = checked_labels(
            [line for line in read_text(wanted.people_labels).splitlines() if line.strip()], most=1000, what="labels"
        )
    embedded = _embed(people.files, encoder, settings)
    groups = [people.groups[place] for place in embedded.places]
    names = PromptTemplates().embed(labels, encoder=encoder).rows
    counts = {group: groups.count(group) for group in sorted(set(groups))}
    return BiasOut.of(limits, counts, disparities(embedded.rows, groups, names, labels))


def _embed(paths: Sequence[Path], encoder: Encoder, settings: Settings) -> Embedded:
    told = 0

    def progress(done: int) -> None:
        nonlocal told
        if done - told >= _TOLD_EVERY:
            told = done
            output.note(f"{done:,} of {len(paths):,} pictures")

    limits = Limits(max_pixels=settings.max_pixels, max_bytes=settings.max_picture_bytes)
    with DecoderPool(
        processes=settings.decode_processes,
        limits=limits,
        timeout_s=settings.decode_timeout_s,
        memory_bytes=settings.decode_memory_bytes,
    ) as decoders:
        embedded = embed_files(
            paths, encoder=encoder, decoders=decoders, batch_size=batch_size_of(encoder), progress=progress
        )
    for path, reason in embedded.failed[:_SHOWN]:
        output.warn(f"{path}: {reason}")
    if not len(embedded.rows):
        raise InvalidInput(f"none of the {len(paths)} files is a picture that can be read")
    return embedded
