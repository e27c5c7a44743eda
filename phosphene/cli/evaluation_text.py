"""An evaluation in words, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_api.schemas import BiasOut, CaptionsOut, EvaluationOut, GoldenOut, IndexRecallOut, NoMatchOut, ZeroShotOut
from search_api.schemas.calibrations import IntervalOut

_SHOWN = 8  # queries that found nothing, missing pictures, weak classes


def lines(report: EvaluationOut) -> list[str]:
    """Write a report."""
    told: list[str] = []
    if report.golden is not None:
        told += _golden(report.golden)
    if report.no_match is not None:
        told += _no_match(report.no_match)
    if report.index_recall is not None:
        told += _index_recall(report.index_recall)
    if report.zero_shot is not None:
        told += _zero_shot(report.zero_shot, report.model)
    if report.captions is not None:
        told += _captions(report.captions, report.model)
    if report.bias is not None:
        told += _bias(report.bias, report.model)
    return told


def _bias(bias: BiasOut, model: str) -> list[str]:
    told: list[str] = []
    if bias.limits:
        told.append(f"known limits: the right caption of made pictures, {model}")
        width = max(len(one.name) for one in bias.limits)
        told += [f"  {one.name:{width}}  {_told(one.accuracy)}  by chance {one.chance:.3f}" for one in bias.limits]
    if bias.groups:
        told.append("labels of people: " + ", ".join(f"{group} {count:,}" for group, count in bias.groups.items()))
    for one in bias.disparities:
        shares = ", ".join(f"{group} {share.value:.0%}" for group, share in one.shares.items())
        times = "" if one.ratio is None else f", {one.ratio:.1f} times"
        told.append(f"  {one.label}: {shares}; {100 * one.difference:.0f} points apart{times}")
    return told


def _golden(golden: GoldenOut) -> list[str]:
    told = [f"golden queries: {len(golden.queries)}", *_table(golden.metrics)]
    failed = [one.query for one in golden.queries if one.first_right is None or one.first_right > 10]
    if failed:
        told.append(f"  nothing right among ten: {_some(failed)}")
    if golden.missing:
        told.append(f"  not in the catalogue, so not found: {_some(golden.missing)}")
    return told


def _no_match(match: NoMatchOut) -> list[str]:
    told = [f"matches: {match.questions} questions, {match.right:.0%} with a right best hit"]
    told += _table({f"AUROC, {match.decided_by}": match.auroc, "AUROC, best cosine": match.cosine_auroc})
    if match.false_match_rate is None:
        return [*told, "  not calibrated: run `phosphene calibrate`"]
    rates = f"{match.false_match_rate:.0%} of wrong best hits are called a match ({match.promised:.0%} promised)"
    return [*told, f"  {rates}, {match.missed_match_rate:.0%} of right ones are not"]


def _index_recall(recall: IndexRecallOut) -> list[str]:
    return [
        f"index recall@{recall.k}: {recall.questions} of {recall.points:,} pictures asked",
        *(
            f"  {one.condition:10}  {_told(one.recall)}  worst {one.worst:.2f}  {one.points:,} pictures, "
            f"{one.index_ms:.1f} ms, exact {one.exact_ms:.1f} ms"
            for one in recall.conditions
        ),
    ]


def _zero_shot(shot: ZeroShotOut, model: str) -> list[str]:
    told = [f"zero-shot: {shot.pictures:,} pictures of {shot.classes:,} classes, {model}"]
    named = {"accuracy@1": shot.accuracy_at_1, "accuracy@5": shot.accuracy_at_5, "mean_per_class": shot.mean_per_class}
    told += _table(named)
    weak = [f"{one.label} {one.accuracy:.0%}" for one in shot.worst if one.accuracy < shot.accuracy_at_1.value]
    if weak:
        told.append(f"  weakest: {', '.join(weak[:_SHOWN])}")
    return told + _left_out(shot.skipped)


def _captions(captions: CaptionsOut, model: str) -> list[str]:
    told = [f"captions: {captions.captions:,} of {captions.pictures:,} pictures, {model}"]
    told += _table({f"text_to_image_{name}": one for name, one in captions.text_to_image.items()})
    told += _table({f"image_to_text_{name}": one for name, one in captions.image_to_text.items()})
    return told + _left_out(captions.skipped)


def _left_out(files: int) -> list[str]:
    return [f"  left out: {files:,} files that can't be read"] if files else []


def _table(metrics: Mapping[str, IntervalOut]) -> list[str]:
    width = max(map(len, metrics))
    return [f"  {name:{width}}  {_told(interval)}" for name, interval in metrics.items()]


def _told(interval: IntervalOut) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
