"""An evaluation as a picture. The only file that imports matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phosphene.errors import InvalidInput
from search_api.schemas import EvaluationOut
from search_api.schemas.calibrations import IntervalOut
from search_api.schemas.evaluations import NoMatchOut

_WIDTH, _HEIGHT = 5.2, 4.6  # inches a diagram
_LINE, _SOFT = "#0d6b6e", "#5b656b"


def draw_evaluation(report: EvaluationOut, file: Path) -> None:
    """Draw a diagram for each part, side by side. Raises InvalidInput for a file that can't be."""
    bars = {title: metrics for title, metrics in _bars(report).items() if metrics}
    diagrams = len(bars) + (report.no_match is not None)
    figure = Figure(figsize=(_WIDTH * max(diagrams, 1), _HEIGHT), dpi=120, layout="constrained")
    axes = list(figure.subplots(1, max(diagrams, 1), squeeze=False)[0])
    for place, (title, metrics) in enumerate(bars.items()):
        _draw_bars(axes[place], title, metrics)
    if report.no_match is not None:
        _draw_roc(axes[-1], report.no_match)
    figure.suptitle(report.model, color=_SOFT)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"--plot {file}: {getattr(error, 'strerror', None) or error}") from error


def _bars(report: EvaluationOut) -> dict[str, Mapping[str, IntervalOut]]:
    found: dict[str, Mapping[str, IntervalOut]] = {}
    if (golden := report.golden) is not None:
        found[f"{len(golden.queries)} golden queries"] = golden.metrics
    if (recall := report.index_recall) is not None:
        title = f"index recall@{recall.k}, {recall.points:,} pictures"
        found[title] = {one.condition: one.recall for one in recall.conditions}
    if (shot := report.zero_shot) is not None:
        named = {"accuracy@1": shot.accuracy_at_1, "accuracy@5": shot.accuracy_at_5, "per class": shot.mean_per_class}
        found[f"zero-shot, {shot.classes:,} classes"] = named
    if (captions := report.captions) is not None:
        found[f"text to image, {captions.captions:,} captions"] = captions.text_to_image
        found[f"image to text, {captions.pictures:,} pictures"] = captions.image_to_text
    return found


def _draw_bars(axes: Axes, title: str, metrics: Mapping[str, IntervalOut]) -> None:
    values = [one.value for one in metrics.values()]
    errors = [
        [max(one.value - one.low, 0.0) for one in metrics.values()],
        [max(one.high - one.value, 0.0) for one in metrics.values()],
    ]
    axes.bar(list(metrics), values, yerr=errors, color=_LINE, ecolor=_SOFT, capsize=4)
    for place, value in enumerate(values):
        axes.text(place, 0.02, f"{value:.3f}", ha="center", color="white", fontsize=8)
    axes.set_ylim(0, 1.05)
    axes.set_title(title)
    axes.tick_params(axis="x", rotation=30)


def _draw_roc(axes: Axes, match: NoMatchOut) -> None:
    points = [(0.0, 0.0), *((one.false_match_rate, one.true_match_rate) for one in match.roc), (1.0, 1.0)]
    axes.plot([x for x, _ in points], [y for _, y in points], color=_LINE)
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.8, linestyle="--")
    if match.false_match_rate is not None and match.missed_match_rate is not None:
        axes.plot([match.false_match_rate], [1 - match.missed_match_rate], "o", color=_LINE)
    auroc = match.auroc
    axes.set_title(f"matches: area {auroc.value:.3f} ({auroc.low:.3f} to {auroc.high:.3f})")
    axes.set_xlabel("wrong best hits called a match")
    axes.set_ylabel("right best hits called a match")
    axes.set_aspect("equal")
