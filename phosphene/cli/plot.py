"""The curves of calibrations as a picture, drawn with Pillow: two squares need no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from phosphene.errors import InvalidInput
from search_api.schemas import CalibrationOut

_SIDE = 420  # pixels of a curve's square
_MARGIN = 70
_SCALE = 2  # drawn larger and reduced: smooth lines
_INK, _SOFT, _RULE, _LINE = "#1c2226", "#5b656b", "#d8d2c8", "#0d6b6e"
_PAPER = "#ffffff"

Point = tuple[float, float]  # both 0..1, from the lower left corner


def draw_calibrations(calibrations: Sequence[CalibrationOut], file: Path) -> None:
    """Draw a row for each calibration, ROC curve and reliability. Raises InvalidInput for a file that can't be."""
    rows = max(len(calibrations), 1)
    cell = _SIDE + 2 * _MARGIN
    canvas = Image.new("RGB", (2 * cell * _SCALE, rows * cell * _SCALE), _PAPER)
    for row, one in enumerate(calibrations):
        _roc(_Square(canvas, (0, row * cell)), one)
        _reliability(_Square(canvas, (cell, row * cell)), one)
    try:
        canvas.resize((2 * cell, rows * cell), Image.Resampling.LANCZOS).save(file, "PNG")
    except OSError as error:
        raise InvalidInput(f"--plot {file}: {error.strerror or error}") from error


def _roc(square: _Square, one: CalibrationOut) -> None:
    area = one.decision.auroc
    square.frame(
        f"{one.modality}: ROC, area {area.value:.3f} ({area.low:.3f} to {area.high:.3f})",
        "wrong best hits called a match",
        "right best hits called a match",
    )
    square.line([(0, 0), *((point.false_match_rate, point.true_match_rate) for point in one.roc), (1, 1)])
    square.dot((one.false_match_rate, 1 - one.missed_match_rate), f"from {one.threshold:.0%}")


def _reliability(square: _Square, one: CalibrationOut) -> None:
    square.frame(f"{one.modality}: reliability, {one.questions:,} questions", "predicted", "observed")
    points = [(part.predicted, part.observed) for part in one.reliability]
    square.line(points)
    for point in points:
        square.dot(point)


class _Square:
    """One diagram: the unit square on a part of the canvas, whose upper left corner is at `corner`."""

    def __init__(self, canvas: Image.Image, corner: tuple[int, int]) -> None:
        self._draw = ImageDraw.Draw(canvas)
        self._canvas = canvas
        self._left, self._top = corner[0] + _MARGIN, corner[1] + _MARGIN

    def frame(self, title: str, across: str, upward: str) -> None:
        """Draw the diagonal, the grid and what the axes mean."""
        for step in range(11):
            at = step / 10
            self.line([(at, 0), (at, 1)], _RULE, 1)
            self.line([(0, at), (1, at)], _RULE, 1)
            if step % 2 == 0:
                self._text((at, -0.03), f"{at:.0%}", "mt", _SOFT)
                self._text((-0.02, at), f"{at:.0%}", "rm", _SOFT)
        self.line([(0, 0), (1, 1)], _SOFT, 1)
        self._text((0.5, 1.11), title, "mm", _INK, 17)
        self._text((0.5, -0.12), across, "mm", _SOFT)
        self._text((0, 1.02), upward, "lb", _SOFT)

    def line(self, points: Sequence[Point], colour: str = _LINE, width: int = 3) -> None:
        """Join points."""
        for one, other in pairwise(points):
            self._draw.line([self._place(one), self._place(other)], fill=colour, width=width * _SCALE)

    def dot(self, point: Point, name: str = "") -> None:
        """Mark a point."""
        x, y = self._place(point)
        radius = 5 * _SCALE
        self._draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_LINE)
        self._text((point[0] + 0.03, point[1] - 0.03), name, "lt", _INK)

    def _text(self, point: Point, text: str, anchor: str, colour: str, size: int = 13) -> None:
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text(self._place(point), text, fill=colour, font=font, anchor=anchor)

    def _place(self, point: Point) -> tuple[float, float]:
        x = self._left + point[0] * _SIDE
        y = self._top + (1 - point[1]) * _SIDE
        return x * _SCALE, y * _SCALE
