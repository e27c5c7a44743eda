"""What the commands print: answers on stdout, for people or as JSON; everything else on stderr."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from phosphene.cli.doctor import Finding, Verdict
from phosphene.encoders import ModelDescription
from search_api.schemas import (
    CalibrationList,
    ClusterList,
    EvaluationOut,
    ExplanationOut,
    FacetOut,
    FieldList,
    HitOut,
    IngestResponse,
    QuarantineEntry,
    ReindexStatus,
    SearchResponse,
    VerifyResponse,
)

_ABOUT = ("category", "creator", "year")
_WIDE = 120  # characters
_FIXED_COLUMNS = 6 + 36 + 3 * 2  # score, asset and the gaps
_STYLE = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def line(text: str) -> None:
    """Print one line of the answer."""
    print(harmless(text), flush=True)  # noqa: T201  a command line prints


def note(text: str) -> None:
    """Say how it goes."""
    print(harmless(text), file=sys.stderr, flush=True)  # noqa: T201  the same


def harmless(text: str) -> str:
    """Take out what would steer a terminal: titles and names are whatever somebody wrote into a picture."""
    return text.translate(_CONTROLS)


def warn(text: str) -> None:
    """Say what looks wrong."""
    note(f"phosphene: warning: {text}")


def hits(response: SearchResponse, *, as_json: bool) -> None:
    """Print what was found."""
    if as_json:
        line(response.model_dump_json())
        return
    if not response.hits:
        note("nothing found")
        return
    line(response.match.note)
    if not response.understood.plain:
        line(f"understood: {response.understood.note}")
    room = (shutil.get_terminal_size((_WIDE, 0)).columns if sys.stdout.isatty() else _WIDE) - _FIXED_COLUMNS
    title_room = max(room * 2 // 5, 12)
    about_room = max(room - title_room, 12)
    line(f"score   {'title':{title_room}}  {'about':{about_room}}  asset")
    for hit in response.hits:
        _hit(hit, title_room, about_room)
    for facet in response.facets.values():
        line(_facet(facet))
    if response.note:
        note(f"phosphene: {response.note}")
    if response.next_cursor:
        note(f"more: --cursor {response.next_cursor}")


def _hit(hit: HitOut, title_room: int, about_room: int, indent: str = "") -> None:
    marks = ["generated"] * hit.generated + ["found by the prior"] * (hit.found_by == "prior")
    marks += [f"and {hit.folded} like it{' by cosine' * (hit.folded_by_cosine > 0)}"] * (hit.folded > 0)
    about = ", ".join([*marks, *(str(hit.metadata[name]) for name in _ABOUT if hit.metadata.get(name))])
    title = cut(indent + (hit.title or ""), title_room)
    line(f"{hit.score:6.3f}  {title:{title_room}}  {cut(about, about_room):{about_room}}  {hit.asset_id}")
    if hit.explanation is not None:
        line(f"        {_explained(hit.explanation)}")
    if hit.group is not None:
        for other in hit.group.others:
            _hit(other, title_room, about_room, indent="  ")


def _facet(facet: FacetOut) -> str:
    """Write the counts of a field in one line; those among the best hits stand behind a stroke."""
    counted = [f"{one.value} {one.count:,}/{one.among_best:,}" for one in facet.values]
    counted += [f"{_short(one.gte)}..<{_short(one.lt)} {one.count:,}/{one.among_best:,}" for one in facet.ranges]
    counted += ["…"] * facet.more + [f"none {facet.missing:,}"] * (facet.missing > 0)
    return f"{facet.field} (of {facet.pictures:,}/{facet.best:,}): {', '.join(counted)}"


def _short(bound: float | str) -> str:
    return bound.removesuffix("T00:00:00Z") if isinstance(bound, str) else f"{bound:.12g}"


def _explained(one: ExplanationOut) -> str:
    """Say which part gave what to a hit."""
    parts = [] if one.score is None else [f"fused {one.score:.3f}"]
    for name, place, form in (("picture", one.picture, ".3f"), ("words", one.words, ".2f")):
        if place is not None:
            rank = "" if place.rank is None else f" {place.rank}."
            parts.append(f"{name}{rank} ({place.score:{form}})")
    return "; ".join([*parts, *([f"has {' '.join(one.matched)}"] if one.matched else [])])


def ingested(response: IngestResponse, *, as_json: bool) -> None:
    """Print how an ingest went."""
    if as_json:
        line(response.model_dump_json())
        return
    line(_counts(response))
    if response.error:
        note(f"phosphene: {response.error}")
    if response.counts.quarantined:
        note(f"see why: phosphene ingest status {response.id}")


def ingests(responses: Sequence[IngestResponse], entries: Sequence[QuarantineEntry], *, as_json: bool) -> None:
    """List ingests, newest first, and all that is in quarantine now."""
    if as_json:
        ingest_list = [response.model_dump(mode="json") for response in responses]
        line(json.dumps({"ingests": ingest_list, "quarantine": [entry.model_dump(mode="json") for entry in entries]}))
        return
    for response in responses:
        line(f"{response.id}  {response.started_at:%Y-%m-%d %H:%M}  {response.state}  {_counts(response)}")
    if not responses:
        note("no ingests yet: phosphene ingest FOLDER adds pictures")
    _quarantine(entries)


def quarantine(response: IngestResponse, entries: Sequence[QuarantineEntry], *, as_json: bool) -> None:
    """Print one ingest with what it could not use."""
    if as_json:
        quarantined = [entry.model_dump(mode="json") for entry in entries]
        line(json.dumps({"ingest": response.model_dump(mode="json"), "quarantine": quarantined}))
        return
    line(f"{response.state}: {_counts(response)}")
    _quarantine(entries)


def fields(found: FieldList, *, as_json: bool) -> None:
    """Print the fields that filters may name."""
    if as_json:
        line(found.model_dump_json())
        return
    for field in found.fields:
        marks = ", ".join(["computed"] * field.system + ["facet"] * field.facet)
        line(f"{field.name:24}  {field.kind:8}  {marks:15}  {field.description or ''}".rstrip())


def verified(response: VerifyResponse, *, as_json: bool) -> None:
    """Print what verify found."""
    if as_json:
        line(response.model_dump_json())
        return
    for text in response.lines():
        line(text)


def calibrated(response: CalibrationList, *, as_json: bool) -> None:
    """Print what was learned about matches."""
    if as_json:
        line(response.model_dump_json())
        return
    for one in response.calibrations:
        line(
            f"{one.modality} questions: a match from {one.threshold:.0%}; {one.false_match_rate:.0%} of wrong best "
            f"hits are called a match, {one.missed_match_rate:.0%} of right ones are not"
        )
        told = (("decision", one.decision), ("cosine", one.raw_cosine), ("z-score", one.z_score))
        areas = ", ".join(f"{name} {by.auroc.value:.3f}" for name, by in told)
        note(f"  told right from wrong (AUROC) by {areas}; {one.questions:,} questions on {one.captions:,} captions")
    for failure in response.failed:
        note(f"phosphene: {failure.modality} questions are not calibrated: {failure.reason}")


def evaluated(report: EvaluationOut, told: Iterable[str], *, as_json: bool) -> None:
    """Print what was measured; figures also by name, as --fail-under takes them."""
    if as_json:
        metrics = {name: one.model_dump() for name, one in report.metrics().items()}
        line(json.dumps({**report.model_dump(mode="json", exclude_none=True), "metrics": metrics}))
        return
    for text in told:
        line(text)


def duplicates(lists: Sequence[ClusterList], *, as_json: bool) -> None:
    """Print clusters: what to keep and why, then the others."""
    clusters = [cluster for one in lists for cluster in one.clusters]
    if as_json:
        line(json.dumps({"clusters": [cluster.model_dump(mode="json") for cluster in clusters]}))
        return
    for cluster in clusters:
        kept, *others = cluster.assets
        line(f"keep  {cut(kept.title or '', 40):40}  {kept.asset_id}  {cluster.reason}")
        for other in others:
            told = f"{other.width} x {other.height} {other.format}, {other.bytes:,} bytes"
            line(f"      {cut(other.title or '', 40):40}  {other.asset_id}  {told}")
        if cluster.count > len(cluster.assets):
            line(f"      and {cluster.count - len(cluster.assets):,} more")
        if cluster.kind == "exact":
            for place in kept.places:
                line(f"      {place}")
    if not clusters:
        note("no two pictures look alike")
    if any(one.next_after for one in lists):
        note("there are more: --limit lists up to 200 of each kind")


def reindexed(status: ReindexStatus, told: Iterable[str], *, as_json: bool) -> None:
    """Print how a change of the model stands."""
    if as_json:
        line(status.model_dump_json())
        return
    for text in told:
        line(text)


def models(descriptions: Sequence[ModelDescription], *, as_json: bool) -> None:
    """List models."""
    if as_json:
        line(json.dumps([dataclasses.asdict(description) for description in descriptions]))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("model", "here", "repository"):
        table.add_column(name)
    for description in descriptions:
        table.add_row(description.name, "yes" if description.cached else "no", description.repository or "")
    Console().print(table)


def findings(report: Iterable[Finding], *, as_json: bool) -> bool:
    """Print each finding as it comes; say whether none failed."""
    console = Console()
    fine = True
    collected = []
    for finding in report:
        fine = fine and finding.verdict is not Verdict.FAIL
        collected.append(dataclasses.asdict(finding))
        if not as_json:
            style = _STYLE[finding.verdict]
            told = f"[{style}]{finding.verdict:4}[/] {escape(finding.subject)}: {escape(finding.detail)}"
            console.print(told, soft_wrap=True)
    if as_json:
        line(json.dumps(collected))
    return fine


def cut(text: str, room: int) -> str:
    """Put a text on one line, at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= room else text[: room - 1] + "…"


def _counts(response: IngestResponse) -> str:
    counts = response.counts
    parts = ("added", "unchanged", "updated", "quarantined")
    return ", ".join(f"{name} {getattr(counts, name)}" for name in parts)


def _quarantine(entries: Sequence[QuarantineEntry]) -> None:
    for entry in entries:
        uri = entry.uri.replace("\n", "\\n").replace("\t", "\\t")  # file names may hold them; an entry is a line
        line(f"  {uri}: {entry.fault}: {entry.reason}")
