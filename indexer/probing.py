"""Labels learned from examples of a catalogue: trained, applied to all of it, and taken away again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from indexer.embedding import renew_payloads
from indexer.walking import vectors, vectors_of
from phosphene.assemble import Engine
from phosphene.catalog.records import LabelModelKind
from phosphene.errors import InvalidInput, NotFound
from phosphene.filters import Filter, tenant_filter
from phosphene.labels.probes import MOST, Probe, train
from phosphene.labels.vocabulary import checked_labels
from phosphene.life import show_life
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, TenantId
from phosphene.vectors.base import VectorQuery, asset_of

MAX_PROBES = 100  # of a tenant
_DRAWN = 5  # times as many pictures against as for, where the caller names none
_FEWEST_DRAWN = 100


@dataclass(frozen=True, slots=True)
class Examples:
    """Pictures that show a label, and pictures that do not.

    `where` takes all that a filter finds for examples. Without any against, pictures of the rest stand in for them.
    """

    positive: tuple[AssetId, ...] = ()
    negative: tuple[AssetId, ...] = ()
    where: Filter | None = None

    def __post_init__(self) -> None:
        """Refuse what is on both sides, and too many. Raises InvalidInput."""
        both = set(self.positive) & set(self.negative)
        if both:
            raise InvalidInput(f"asset {min(both)} can't be an example both for and against")
        for side in (self.positive, self.negative):
            if len(side) > MOST:
                raise InvalidInput(f"{len(side)} examples of one side are more than {MOST:,}")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of applying a probe: pictures looked at, and those that got the label."""

    probe: Probe
    pictures: int
    labelled: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class StandingProbe:
    """A probe, and whether another model answers than the one that it was learned with."""

    probe: Probe
    stale: bool


def train_probe(name: str, examples: Examples | None, *, engine: Engine, tenant: TenantId) -> Probe:
    """Learn a label in the space that answers, in place of one of that name; it is to be applied anew.

    Without examples: from those that it was learned from before and that are still there, as after a change of the
    model. Raises InvalidInput, NotFound for an example that is not there.
    """
    (name,) = checked_labels([name], most=1, what="name")
    with engine.answering() as space:
        standing = standing_probes(engine=engine, tenant=tenant)
        known = next((one.probe for one in standing if one.probe.name == name), None)
        if known is None and len(standing) >= MAX_PROBES:
            raise InvalidInput(f"there are {MAX_PROBES} labels already: delete one first")
        if examples is None:
            if known is None:
                raise NotFound(f"no label {name!r} has been learned: name examples for it")
            there_still = engine.catalog.assets(tenant, [*known.positive, *known.negative])
            examples = Examples(
                tuple(id_ for id_ in known.positive if id_ in there_still),
                tuple(id_ for id_ in known.negative if id_ in there_still) if known.chosen_negative else (),
            )
        positive = _positive(examples, space, tenant)
        negative = examples.negative or _others(positive, engine, tenant)
        ids = [*positive, *(id_ for id_ in negative if id_ not in set(positive))]
        found = vectors_of(ids, space, engine=engine, tenant=tenant)
        there = [id_ for id_ in ids if id_ in found]
        for_it = set(positive)
        probe = train(
            name,
            np.stack([found[id_] for id_ in there])
            if there
            else np.empty((0, space.space.dimension), dtype=np.float32),
            np.array([id_ in for_it for id_ in there], dtype=np.bool_),
            space_id=space.space.id,
            ids=there,
            chosen_negative=bool(examples.negative),
            made_at=datetime.now(UTC),
        )
        engine.catalog.labels.store_model(tenant, probe.model())
    return probe


def standing_probes(*, engine: Engine, tenant: TenantId) -> list[StandingProbe]:
    """List a tenant's labels by name: as learned in the space that answers, else the latest, which is stale."""
    now = engine.current.space.id
    found: dict[str, StandingProbe] = {}
    for model in engine.catalog.labels.models(tenant, LabelModelKind.PROBE):
        if model.name not in found or (model.space_id == now and found[model.name].stale):
            found[model.name] = StandingProbe(Probe.of(model), stale=model.space_id != now)
    return list(found.values())


def usable_probe(name: str, *, engine: Engine, tenant: TenantId) -> Probe:
    """Give a label of the space that answers. Raises NotFound, and InvalidInput where it is stale."""
    found = next((one for one in standing_probes(engine=engine, tenant=tenant) if one.probe.name == name), None)
    if found is None:
        raise NotFound(f"no label {name[:80]!r} has been learned")
    if found.stale:
        raise InvalidInput(
            f"{name!r} was learned with the space {found.probe.space_id}, and another one answers now: train it again, "
            "from the same examples if none are named"
        )
    return found.probe


def apply_probe(name: str, *, engine: Engine, tenant: TenantId, stop: threading.Event | None = None) -> Applied:
    """Give the label to all pictures of a tenant that show it, take it from those that don't; new ones get it too."""
    with engine.answering() as space:
        probe = replace(usable_probe(name, engine=engine, tenant=tenant), applied=True)
        engine.catalog.labels.store_model(tenant, probe.model())
        seen = labelled = 0
        for assets, rows in vectors(tenant, space, engine=engine):
            show_life()
            said = probe.held(rows, [asset.id for asset in assets])
            seen += len(said)
            labelled += sum(one is not None for one in said.values())
            changed = engine.catalog.labels.set_probe(tenant, name, said)
            renew_payloads(engine, dict.fromkeys(changed, tenant), engine.written())
            if stop is not None and stop.is_set():
                return Applied(probe, seen, labelled, stopped=True)
    return Applied(probe, seen, labelled, stopped=False)


def delete_probe(name: str, *, engine: Engine, tenant: TenantId) -> None:
    """Forget a label, and take it from all pictures. Raises NotFound."""
    if not engine.catalog.labels.delete_model(tenant, LabelModelKind.PROBE, name):
        raise NotFound(f"no label {name[:80]!r} has been learned")
    after: AssetId | None = None
    while page := engine.catalog.page_assets(tenant=tenant, after=after, limit=500):
        after = page[-1].id
        carry = {asset.id: None for asset in page if name in asset.labels.probes}
        if carry:
            changed = engine.catalog.labels.set_probe(tenant, name, carry)
            renew_payloads(engine, dict.fromkeys(changed, tenant), engine.written())


def _positive(examples: Examples, space: OpenSpace, tenant: TenantId) -> list[AssetId]:
    chosen = dict.fromkeys(examples.positive)
    if examples.where is not None:
        start = np.zeros(space.space.dimension, dtype=np.float32)
        start[0] = 1  # all that the filter leaves come, in whatever order
        asked = VectorQuery(start, MOST, tenant_filter(tenant, examples.where), exact=True)
        chosen |= dict.fromkeys(asset_of(point) for point in space.index.query([asked])[0])
    unwanted = set(examples.negative)
    return [id_ for id_ in chosen if id_ not in unwanted][:MOST]


def _others(positive: Sequence[AssetId], engine: Engine, tenant: TenantId) -> list[AssetId]:
    """Draw pictures that nobody named: the first in the order of their ids, which is as good as random."""
    wanted = min(MOST, max(_FEWEST_DRAWN, _DRAWN * len(positive)))
    page = engine.catalog.page_assets(tenant=tenant, after=None, limit=wanted + len(positive))
    named = set(positive)
    return [asset.id for asset in page if asset.id not in named][:wanted]
