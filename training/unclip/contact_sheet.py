"""One picture of what the generator draws, failures included."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from phosphene.types import Pixels
from training.unclip.drawn import Drawn
from training.unclip.held_out import SIDE, HeldOut

_COLUMNS = 8
_LINE = 16
_GAP = 6
_LETTERS = 20  # of a caption that fit above a tile


def draw_contact_sheet(
    held_out: HeldOut, drawn: Drawn, target: Path, *, captions: int = 48, variations: int = 32
) -> None:
    """Write a PNG: pictures for captions, then pairs of a picture and its variation, in no chosen order."""
    named = [(held_out.captions[row], drawn.from_captions[at]) for at, row in enumerate(drawn.rows[:captions])]
    pairs: list[tuple[str, Pixels]] = []
    for at, row in enumerate(drawn.rows[:variations]):
        pairs += [("held out", held_out.pixels[row]), ("its variation", drawn.from_pictures[at])]
    tiles = [*named, *[("", None)] * (-len(named) % _COLUMNS), *pairs]
    width, height = SIDE + _GAP, SIDE + _LINE + _GAP
    sheet = Image.new("RGB", (_COLUMNS * width, -(-len(tiles) // _COLUMNS) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, (caption, pixels) in enumerate(tiles):
        left, top = place % _COLUMNS * width, place // _COLUMNS * height
        pen.text((left + 2, top), caption[:_LETTERS], fill="black", font=font)
        if pixels is not None:
            sheet.paste(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top + _LINE))
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(192).save(target, optimize=True)
    print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB")
