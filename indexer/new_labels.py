"""Words for pictures as they come in: written before their points, which so carry them from the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phosphene.assemble import Engine
from phosphene.catalog.records import LabelModelKind
from phosphene.labels.calibration import LabelCalibration
from phosphene.labels.keywords import keywords_of
from phosphene.labels.probes import Probe
from phosphene.moderation import Policy, flags, judge
from phosphene.open_space import OpenSpace
from phosphene.types import AssetId, Float32, TenantId


def label_calibration(tenant: TenantId, space: OpenSpace, *, engine: Engine) -> LabelCalibration | None:
    """Give how probabilities of labels are told in a space; None where that was not learned."""
    for one in engine.catalog.labels.models(tenant, LabelModelKind.CALIBRATION):
        if one.space_id == space.space.id:
            return LabelCalibration.from_json(one.space_id, one.made_at, one.content)
    return None


def probes_of(tenant: TenantId, space: OpenSpace, *, engine: Engine) -> list[Probe]:
    """Give the labels learned in a space that were applied to the catalogue."""
    found = map(Probe.of, engine.catalog.labels.models(tenant, LabelModelKind.PROBE))
    return [probe for probe in found if probe.applied and probe.space_id == space.space.id]


def policy_of(tenant: TenantId, *, engine: Engine) -> Policy | None:
    """Give what a tenant wants flagged; None where it never said."""
    return Policy.of(engine.catalog.labels.models(tenant, LabelModelKind.MODERATION))


def label_new(
    engine: Engine, space: OpenSpace, owners: Mapping[AssetId, TenantId], ids: Sequence[AssetId], rows: Float32
) -> None:
    """Write the labels of pictures (n,) that were just embedded as rows (n, d), where the settings say so."""
    if not ids or space.space.id != engine.current.space.id:
        return
    for tenant in sorted(set(owners.values())):
        at = [place for place, id_ in enumerate(ids) if owners[id_] == tenant]
        if engine.settings.auto_keywords:
            calibration = label_calibration(tenant, space, engine=engine)
            found = keywords_of(rows[at], engine.vocabulary.subjects, labeller=space.labeller, calibration=calibration)
            said = {ids[place]: one for place, one in zip(at, found, strict=True)}
            engine.catalog.labels.set_keywords(tenant, space.space.id, said)
        for probe in probes_of(tenant, space, engine=engine):
            engine.catalog.labels.set_probe(tenant, probe.name, probe.held(rows[at], [ids[place] for place in at]))
        policy = policy_of(tenant, engine=engine)
        if policy is not None and policy.at_ingest:
            judged = judge(rows[at], policy, guard=space.guard, labeller=space.labeller)
            new = [ids[place] for place in at]
            flagged = flags(new, judged, min_score=policy.min_score, space_id=space.space.id)
            engine.catalog.labels.flag(tenant, flagged)
