"""Words for pictures."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from indexer.labelling import KeywordsAsked, KeywordsDone
from phosphene.labels.calibration import LabelCalibration
from phosphene.labels.classify import Labelled
from phosphene.labels.describe import Described
from phosphene.labels.keywords import MIN_PROBABILITY, MOST
from phosphene.labels.vocabulary import MAX_LABEL, MAX_WORDS, Vocabulary, checked_labels
from phosphene.types import AssetId
from search_api.labelling import MAX_LABELS, MAX_PHRASES, MAX_SENTENCES, MAX_TEMPLATES, Classified, Picture, TemplateSet
from search_api.schemas.calibrations import IntervalOut
from search_api.schemas.values import Body, PictureBytes

_PICTURES = ("image", "image_url", "asset_id")
Label = Annotated[str, Field(min_length=1, max_length=2 * MAX_LABEL)]  # white space is yet to be collapsed


class PictureIn(Body):
    """One picture: exactly one of image, image_url and asset_id."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _PICTURES]})

    image: PictureBytes | None = Field(None, description="a picture file as base64, with or without a data: prefix")
    image_url: str | None = Field(
        None, max_length=2048, description="a public http(s) address; only where PHOSPHENE_FETCH_URLS is on"
    )
    asset_id: UUID | None = Field(None, description="a picture of the catalogue")

    @model_validator(mode="after")
    def _one_picture(self) -> Self:
        given = [name for name in _PICTURES if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"{' and '.join(given)} at once" if given else "none of them"
            msg = f"name one picture with exactly one of {', '.join(_PICTURES)}, not {said}"
            raise ValueError(msg)
        return self

    def picture(self, *, fetched: bytes | None = None) -> Picture:
        """Give the picture; `fetched` is what image_url led to."""
        return Picture(
            self.image if fetched is None else fetched, AssetId(self.asset_id) if self.asset_id is not None else None
        )


class ClassifyRequest(PictureIn):
    """A picture, and the labels that it may show."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"asset_id": "d65f4f4f-0185-5c7b-a1a3-27b80011ee91", "labels": ["a drink", "an animal"]}],
            "oneOf": [{"required": [name]} for name in _PICTURES],
        }
    )

    labels: list[Label] | None = Field(
        None, min_length=1, max_length=MAX_LABELS, description="any words; null: the subjects of the vocabulary"
    )
    templates: TemplateSet | list[Label] | None = Field(
        None,
        description=f"sentences with {{}} where the label goes, up to {MAX_TEMPLATES}, whose mean names it; or plain, "
        f"sentences or imagenet; null: sentences, or plain with multi_label. Labels times templates: "
        f"{MAX_SENTENCES} at most; what was asked just before is not counted",
        examples=["imagenet", ["a photo of a {}.", "a drawing of a {}."]],
    )
    multi_label: bool = Field(
        default=False,
        description="each label by itself: any number of them may be right. Else probabilities are shared out among "
        "the labels, as if the picture showed one of them",
    )
    limit: int = Field(20, ge=1, le=MAX_LABELS, description="labels in the answer, the likeliest")


class LabelOut(BaseModel):
    """A label of a picture."""

    label: str
    score: float = Field(description="cosine of label and picture, -1..1; not comparable between models")
    probability: float | None = Field(description="0..1; null: not calibrated")

    @classmethod
    def of(cls, labelled: Labelled) -> Self:
        """Show a label."""
        return cls(**asdict(labelled))


class ReliabilityOfLabels(BaseModel):
    """Pairs of picture and word of about one probability."""

    predicted: float
    observed: float
    pairs: int


class LabelCalibrationOut(BaseModel):
    """How probabilities of labels were learned; every figure is of words that were not learned from.

    A probability is that of the owner's having written the word as a keyword. Owners leave out much that is true.
    """

    space: str
    made_at: datetime
    pictures: int
    words: int
    share_carried: float = Field(description="of all pairs of picture and word")
    auroc: float = Field(description="over all pairs")
    auroc_per_word: IntervalOut = Field(description="mean over words: how well each finds its own pictures")
    average_precision: float
    log_loss: float
    log_loss_blind: float = Field(description="of saying share_carried of every pair")
    reliability: list[ReliabilityOfLabels]

    @classmethod
    def of(cls, one: LabelCalibration) -> Self:
        """Show a calibration."""
        return cls(
            space=one.space_id,
            made_at=one.made_at,
            pictures=one.pictures,
            words=one.words,
            share_carried=one.share_carried,
            auroc=one.auroc,
            auroc_per_word=IntervalOut(**asdict(one.auroc_per_word)),
            average_precision=one.average_precision,
            log_loss=one.log_loss,
            log_loss_blind=one.log_loss_blind,
            reliability=[
                ReliabilityOfLabels(predicted=part.predicted, observed=part.observed, pairs=part.questions)
                for part in one.reliability
            ],
        )


class ClassifyResponse(BaseModel):
    """Labels, the likeliest first."""

    space: str = Field(description="of the model that answered")
    model: str
    labels: list[LabelOut]
    templates: list[str] = Field(description="the sentences that each label was put into")
    multi_label: bool
    calibrated: bool = Field(description="whether there are probabilities; multi_label learns them from keywords")
    note: str = Field(description="what the probabilities say, in words")

    @classmethod
    def of(cls, found: Classified, *, each: bool, limit: int) -> Self:
        """Show an answer."""
        calibrated = found.calibration is not None or not each
        return cls(
            space=found.space,
            model=found.model,
            labels=[LabelOut.of(one) for one in found.labels[:limit]],
            templates=list(found.templates),
            multi_label=each,
            calibrated=calibrated,
            note=_note(each=each, calibrated=calibrated),
        )


def _note(*, each: bool, calibrated: bool) -> str:
    if not each:
        return "shares of 1 among these labels: if it is one of them; not how sure the model is that it is"
    if calibrated:
        return "probabilities that the catalogue's owner would have written the word, learned from its keywords"
    return "not calibrated, so no probabilities: `phosphene keywords` learns them from the catalogue's own keywords"


class DescribeRequest(PictureIn):
    """A picture to describe."""

    kinds: list[Annotated[str, Field(max_length=MAX_LABEL)]] | None = Field(
        None, max_length=MAX_PHRASES, description="subject, medium, style, colours, setting, mood; null: all"
    )
    limit: int = Field(3, ge=1, le=MAX_PHRASES, description="phrases of each kind")


class DescribeResponse(BaseModel):
    """Phrases by kind, the nearest first."""

    space: str
    text: str = Field(description="a line made from the phrases: what no phrase brings nearer is left out")
    score: float = Field(description="cosine of the line and the picture")
    phrases: dict[str, list[LabelOut]] = Field(description="by kind; probabilities are shares among those of the kind")

    @classmethod
    def of(cls, space: str, one: Described) -> Self:
        """Show a description."""
        phrases = {kind: [LabelOut.of(phrase) for phrase in ranked] for kind, ranked in one.phrases.items()}
        return cls(space=space, text=one.text, score=one.score, phrases=phrases)


class KeywordsRequest(Body):
    """Which words to give to the pictures of the catalogue."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"min_probability": 0.3}]})

    vocabulary: list[Label] | None = Field(
        None, min_length=1, max_length=MAX_WORDS, description="your own words; null: the vocabulary of the server"
    )
    min_probability: float = Field(MIN_PROBABILITY, gt=0, lt=1, description="of a word that is written")
    most: int = Field(MOST, ge=1, le=50, description="words of one picture")
    new_only: bool = Field(default=False, description="only pictures that this model has given no keywords yet")

    def asked(self) -> KeywordsAsked:
        """Say what is to be done. Raises InvalidInput."""
        words = None if self.vocabulary is None else checked_labels(self.vocabulary, most=MAX_WORDS, what="vocabulary")
        return KeywordsAsked(words, self.min_probability, self.most, self.new_only)


class KeywordsResponse(BaseModel):
    """What became of it."""

    pictures: int = Field(description="that were looked at")
    with_keywords: int
    words: dict[str, int] = Field(description="in use -> pictures that carry them, the most frequent first")
    calibration: LabelCalibrationOut | None
    note: str

    @classmethod
    def of(cls, done: KeywordsDone) -> Self:
        """Show what was done."""
        held = "probabilities are learned from the catalogue's own keywords"
        if done.calibration is None:
            held = f"not calibrated, words that stand out were taken: {done.reason}"
        return cls(
            pictures=done.pictures,
            with_keywords=done.with_keywords,
            words=dict(done.words),
            calibration=LabelCalibrationOut.of(done.calibration) if done.calibration is not None else None,
            note=held,
        )


class VocabularyOut(BaseModel):
    """The words that are said of pictures."""

    name: str
    licence: str
    source: str
    words: dict[str, list[str]] = Field(description="by kind; automatic keywords are subjects")
    calibration: LabelCalibrationOut | None = Field(description="of the space that answers")

    @classmethod
    def of(cls, vocabulary: Vocabulary, calibration: LabelCalibration | None) -> Self:
        """Show a vocabulary."""
        return cls(
            name=vocabulary.name,
            licence=vocabulary.licence,
            source=vocabulary.source,
            words={kind: list(words) for kind, words in vocabulary.words.items()},
            calibration=LabelCalibrationOut.of(calibration) if calibration is not None else None,
        )
