"""Words for one picture: which labels it shows, and a description. Knows nothing of FastAPI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from indexer.new_labels import label_calibration
from indexer.probing import usable_probe
from indexer.walking import vector_of
from phosphene.assemble import Engine
from phosphene.encoders import PromptTemplates, imagenet_prompts
from phosphene.errors import InvalidInput
from phosphene.labels.calibration import LabelCalibration
from phosphene.labels.classify import Labelled, classify, classify_each
from phosphene.labels.describe import Described, describe
from phosphene.labels.labeller import PLAIN
from phosphene.labels.probes import Probe
from phosphene.labels.vocabulary import checked_labels
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, Float32, SpaceId, TenantId
from search_api.compose import embed_pictures

MAX_LABELS = 1000
MAX_TEMPLATES = 100
MAX_SENTENCES = 1000  # labels times templates, of a request: 2.8 s of a core with the starter, 355 a second
MAX_PHRASES = 50  # of a kind


class TemplateSet(StrEnum):
    """Sentences that can be named."""

    PLAIN = "plain"  # the bare word
    SENTENCES = "sentences"  # three that do for photographs and drawings
    IMAGENET = "imagenet"  # the 80 that published figures on ImageNet were made with


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: exactly one of a file and an asset."""

    data: bytes | None = None
    asset_id: AssetId | None = None

    def __post_init__(self) -> None:
        """Refuse what is not one picture. Raises InvalidInput."""
        if (self.data is None) is (self.asset_id is None):
            raise InvalidInput("name exactly one picture: a file, or an asset of the catalogue")

    def row(self, space: OpenSpace, *, engine: Engine, tenant: TenantId) -> Float32:
        """Embed it: (d,) of length 1. Raises PictureError, NotFound."""
        if self.asset_id is not None:
            return vector_of(self.asset_id, space, engine=engine, tenant=tenant)
        files = [self.data] if self.data is not None else []
        row: Float32 = embed_pictures(files, encoder=space.encoder, decoders=engine.decoders).rows[0]
        return row


@dataclass(frozen=True, slots=True)
class Classified:
    """The labels of a picture, the likeliest first."""

    space: SpaceId
    model: str
    labels: tuple[Labelled, ...]
    templates: tuple[str, ...]
    calibration: LabelCalibration | None  # of labels told each by itself


def run_classify(
    picture: Picture,
    labels: Sequence[str] | None,
    *,
    templates: TemplateSet | Sequence[str] | None,
    each: bool,
    engine: Engine,
    tenant: TenantId,
) -> Classified:
    """Tell which label a picture shows or, with `each`, for every label whether it does.

    Without labels: the subjects of the vocabulary. Without templates: sentences for one of several labels, as in the
    CLIP paper; the bare word for each by itself, as the probabilities were learned. Raises InvalidInput, PictureError,
    NotFound.
    """
    chosen = engine.vocabulary.subjects if labels is None else checked_labels(labels, most=MAX_LABELS)
    if labels is not None and not each and len(chosen) < 2:
        raise InvalidInput("one label alone has nothing to be told apart from: send two, or ask for each by itself")
    sentences = _sentences(templates, each=each)
    with engine.answering() as space:
        row = picture.row(space, engine=engine, tenant=tenant)
        if labels is not None:
            space.labeller.rows(chosen, sentences, most=MAX_SENTENCES)
        calibration = label_calibration(tenant, space, engine=engine) if each else None
        found = (
            classify_each(row, chosen, labeller=space.labeller, calibration=calibration, templates=sentences)
            if each
            else classify(row, chosen, labeller=space.labeller, templates=sentences)
        )
        return Classified(space.space.id, space.space.model, tuple(found), sentences.templates, calibration)


def run_describe(
    picture: Picture, kinds: Sequence[str] | None, *, most: int, engine: Engine, tenant: TenantId
) -> tuple[SpaceId, Described]:
    """Describe a picture by phrases of these kinds, or of all. Raises InvalidInput, PictureError, NotFound."""
    vocabulary = engine.vocabulary
    chosen = vocabulary.kinds if not kinds else tuple(dict.fromkeys(kinds))
    unknown = [kind for kind in chosen if kind not in vocabulary.kinds]
    if unknown:
        raise InvalidInput(
            f"there are no phrases of the kind {unknown[0][:80]!r}; kinds: {', '.join(vocabulary.kinds)}"
        )
    with engine.answering() as space:
        row = picture.row(space, engine=engine, tenant=tenant)
        return space.space.id, describe(row, labeller=space.labeller, vocabulary=vocabulary, kinds=chosen, most=most)


def run_probe(picture: Picture, name: str, *, engine: Engine, tenant: TenantId) -> tuple[Probe, float]:
    """Tell how likely a picture shows a label that was learned. Raises InvalidInput, PictureError, NotFound."""
    with engine.answering() as space:
        probe = usable_probe(name, engine=engine, tenant=tenant)
        row = picture.row(space, engine=engine, tenant=tenant)
        return probe, float(probe.probabilities(row[None])[0])


def _sentences(templates: TemplateSet | Sequence[str] | None, *, each: bool) -> PromptTemplates:
    if templates is None:
        templates = TemplateSet.PLAIN if each else TemplateSet.SENTENCES
    if isinstance(templates, TemplateSet):
        named = {TemplateSet.PLAIN: PLAIN, TemplateSet.SENTENCES: PromptTemplates()}
        return named.get(templates) or PromptTemplates(imagenet_prompts()[1])
    return PromptTemplates(checked_labels(templates, most=MAX_TEMPLATES, what="templates"))
