"""Bytes -> an upright, size-limited RGB picture with what is to be known of it; pixels for an encoder; thumbnails.

Pure functions over Pillow; no torch. Nothing here defends against a decoder that crashes or never ends: that is
`phosphene.decoding`, which runs these functions in processes that can die alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, Self, get_args

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from phosphene.attributes import SHARP_SIDE, SMALL_SIDE, Attributes, attributes_of
from phosphene.colour import to_srgb
from phosphene.errors import PictureError, PictureFault
from phosphene.looks import COLOUR_SIDE, SIDE, hash_of, stored_look
from phosphene.types import Pixels, PixelSpec, Sha256, sha256_of

THUMBNAIL_SIDE = 256
PREVIEW_SIDE = 1024

Orientation = Literal["landscape", "portrait", "square"]

_HEX = re.compile("[0-9a-f]+")
_SQUARE_WITHIN = 0.02  # of the longer side
_JPEG_QUALITY = 85
_WEBP_QUALITY = 92
_PREVIEW_QUALITY = 60
_HEAD = 64  # bytes that tell one format from another
# Sides of a reduced JPEG against the side that is wanted: at 2 no pixel of `fit` moves by more than 3 of 255 (measured
# from 2 to 12 megapixels), while decoding and resizing take a third of the time.
_REDUCED_JPEG_MARGIN = 2
_SAMPLED_SIDE = 128
_MAX_RESIZED_PIXELS = 16_000_000  # `fit` of a 10 x 20000 banner would otherwise make 300 MB to crop a square from

# Pillow's name of each format we decode, and ours.
FORMATS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tiff", "BMP": "bmp", "AVIF": "avif"}

_TURNS = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112

_INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before it is decoded."""

    max_pixels: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """What is known of a picture from its bytes. Width and height are natural and upright, in pixels."""

    sha256: Sha256
    width: int
    height: int
    orientation: Orientation
    format: str  # jpeg, png, webp, gif, tiff, bmp, avif
    bytes: int
    phash: str  # 16 hex digits; the Hamming distance of two look-alikes is small
    transparent_share: float = 0.0  # 0..1 of the picture that one can see through
    look: str | None = None  # hex of phosphene.looks, 1.1 KB

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Self:
        """Read what a decoder told of a picture. Raises KeyError, TypeError or ValueError for anything else."""
        info = cls(**told)
        numbers, words = (info.width, info.height, info.bytes), (info.format, info.look or "")
        if any(type(number) is not int or number < 1 for number in numbers):
            raise ValueError(f"not the measures of a picture: {numbers}")
        if not all(isinstance(word, str) for word in words) or info.orientation not in get_args(Orientation):
            raise ValueError("not the form of a picture")
        if _HEX.fullmatch(info.sha256 + info.phash) is None or len(info.sha256) != 64 or len(info.phash) != 16:
            raise ValueError("not the digests of a picture")
        if not 0 <= info.transparent_share <= 1:
            raise ValueError("not a share of a picture")
        return info


def open_picture(data: bytes, limits: Limits, *, shortest_side: int | None = None) -> tuple[Image.Image, PictureInfo]:
    """Decode a picture within limits: upright 8-bit sRGB without metadata, first frame.

    With `shortest_side` a large JPEG may come reduced to 1/2, 1/4 or 1/8, its sides still well above that; the info
    always tells the natural size. Raises PictureError.
    """
    check_bytes(data, limits)
    kind = _format_of(data)
    try:
        with Image.open(BytesIO(data), formats=[kind]) as opened:
            width, height = opened.size
            _check_size(width, height, limits)
            if shortest_side is not None and kind == "JPEG":
                opened.draft(None, (shortest_side * _REDUCED_JPEG_MARGIN,) * 2)
            opened.load()
            turn = _TURNS.get(_exif_orientation(opened))
            transparent_share = _transparent_share(opened)
            picture = to_srgb(opened)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(
            PictureFault.TOO_MANY_PIXELS, f"the picture has more than {limits.max_pixels:,} pixels"
        ) from error
    except (PictureError, MemoryError):
        raise
    except Exception as error:
        # Pillow's plugins raise nearly anything on damaged data: OSError, SyntaxError, struct.error, IndexError …
        raise _fault_of(error, data, kind) from error
    if turn is not None:
        picture = picture.transpose(turn)
        if turn in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8]) and kind != "TIFF":
            width, height = height, width
    if kind == "TIFF":  # Pillow turns these while loading and forgets the tag
        width, height = picture.size
    picture.info = {}
    look = look_of(picture)
    return picture, PictureInfo(
        sha256=sha256_of(data),
        width=width,
        height=height,
        orientation=orientation_of(width, height),
        format=FORMATS[kind],
        bytes=len(data),
        phash=hash_of(look),
        transparent_share=transparent_share,
        look=look.hex(),
    )


def check_bytes(data: bytes, limits: Limits) -> None:
    """Raise PictureError where there are no bytes or too many."""
    if not data:
        raise PictureError(PictureFault.EMPTY, "the file is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise PictureError(
            PictureFault.TOO_MANY_BYTES,
            f"the file has {len(data):,} bytes; at most {limits.max_bytes:,} are read (PHOSPHENE_MAX_PICTURE_BYTES)",
        )


def orientation_of(width: int, height: int) -> Orientation:
    """Name the orientation; sides within 2 % of each other are a square."""
    if abs(width - height) <= _SQUARE_WITHIN * max(width, height):
        return "square"
    return "landscape" if width > height else "portrait"


def picture_attributes(picture: Image.Image, info: PictureInfo) -> Attributes:
    """Tell what stock sites filter by, of a picture that `open_picture` gave: measured on two small copies."""
    middle = _reduced(picture, SHARP_SIDE)
    small = _reduced(middle, SMALL_SIDE)
    return attributes_of(_to_pixels(small), np.asarray(middle.convert("L")), transparent_share=info.transparent_share)


def _reduced(picture: Image.Image, side: int) -> Image.Image:
    """Bring the longer side to at most `side` by plain averages."""
    width, height = picture.size
    scale = side / max(width, height)
    if scale >= 1:
        return picture
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)


def _transparent_share(picture: Image.Image) -> float:
    """Tell how much of a picture one can see through, from some 16,000 of its pixels."""
    if not picture.has_transparency_data:
        return 0.0
    width, height = (min(side, _SAMPLED_SIDE) for side in picture.size)
    sample = picture.resize((width, height), Image.Resampling.NEAREST).convert("RGBA")
    return float(1 - np.asarray(sample.getchannel("A"), dtype=np.float32).mean() / 255)


def look_of(picture: Image.Image) -> bytes:
    """Keep what a picture looks like: see phosphene.looks. It is resized before it is made grey, five times faster."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    colours = small.resize((COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.BOX)
    return stored_look(np.asarray(small.convert("L")), _to_pixels(colours))


def look_in(info: PictureInfo) -> bytes | None:
    """Give the look that came with a picture."""
    return None if info.look is None else bytes.fromhex(info.look)


def perceptual_hash(picture: Image.Image) -> str:
    """Hash what a picture looks like to 64 bits, 16 hex digits: look-alikes differ in few bits."""
    return hash_of(look_of(picture))


def fit(picture: Image.Image, spec: PixelSpec) -> Pixels:
    """Resize and crop an RGB picture as open_clip does before ToTensor: (size, size, 3) uint8, bit for bit.

    The rounding is torchvision 0.29's and open_clip 3.3's (transform.py: Resize, ResizeKeepRatio, CenterCropOrPad).
    """
    width, height = picture.size
    size = spec.size
    if spec.resize == "squash":
        target = (size, size)
    elif spec.resize == "longest":
        ratio = max(height / size, width / size)
        target = (max(round(width / ratio), 1), max(round(height / ratio), 1))
    else:
        short, long = min(width, height), max(width, height)
        target = (size, int(size * long / short)) if width <= height else (int(size * long / short), size)
    resample = _INTERPOLATIONS[spec.interpolation]
    if target[0] * target[1] > _MAX_RESIZED_PIXELS:
        return _to_pixels(_fit_middle(picture, size, resample))
    resized = picture.resize(target, resample)
    return _to_pixels(_centre_crop_or_pad(resized, size, spec.fill))


def fit_pixels(pixels: Pixels, spec: PixelSpec) -> Pixels:
    """Do `fit` to pictures that are pixels already: (n, height, width, 3) to (n, size, size, 3)."""
    return np.stack([fit(Image.fromarray(np.ascontiguousarray(one)), spec) for one in pixels])


def _fit_middle(picture: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    """Do "shortest" on a very long picture: resize only the square in its middle that the crop would keep."""
    width, height = picture.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    return picture.resize((size, size), resample, box=(left, top, left + short, top + short))


def _centre_crop_or_pad(picture: Image.Image, size: int, fill: int) -> Image.Image:
    width, height = picture.size
    if width < size or height < size:
        padded = Image.new("RGB", (max(width, size), max(height, size)), (fill,) * 3)
        padded.paste(picture, (max(size - width, 0) // 2, max(size - height, 0) // 2))
        picture, (width, height) = padded, padded.size
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def _to_pixels(picture: Image.Image) -> Pixels:
    return np.array(picture, dtype=np.uint8)


def thumbnail(picture: Image.Image, side: int) -> bytes:
    """Make a JPEG whose longer side is at most `side`, without EXIF, comment, profile or anything but pixels."""
    width, height = picture.size
    scale = min(side / max(width, height), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=1.5) if scale < 1 else picture.copy()
    small.info = {}  # Pillow would write its comment and profile
    out = BytesIO()
    small.convert("RGB").save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def encode_picture(
    pixels: Pixels, kind: Literal["png", "webp"], *, xmp: bytes | None = None, quality: int = _WEBP_QUALITY
) -> bytes:
    """Write a picture (height, width, 3) as a file, with an XMP packet where there is one."""
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    out = BytesIO()
    if kind == "webp":
        picture.save(out, "WEBP", quality=quality, method=4, xmp=xmp or b"")
        return out.getvalue()
    chunks = PngInfo()
    if xmp is not None:
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    picture.save(out, "PNG", pnginfo=chunks)
    return out.getvalue()


def small_webp(pixels: Pixels, *, side: int) -> bytes:
    """Write a picture (height, width, 3) as a WebP of a few KB whose longer side is at most `side`."""
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    return encode_picture(_to_pixels(picture), "webp", quality=_PREVIEW_QUALITY)


def _format_of(data: bytes) -> str:
    """Tell the format from its signature, so that only the one plugin it needs sees the data."""
    head = data[:_HEAD]
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and {head[at : at + 4] for at in range(8, len(head), 4)} & {b"avif", b"avis"}:
        return "AVIF"
    known = ", ".join(FORMATS.values())
    foreign = next((name for name, at, signature in _FOREIGN if head[at : at + len(signature)] == signature), None)
    if foreign is None and head.lstrip().lower().startswith((b"<svg", b"<?xml")) and b"<svg" in data[:4096].lower():
        foreign = "an SVG drawing"
    if foreign is not None:
        raise PictureError(
            PictureFault.UNSUPPORTED_FORMAT, f"this is {foreign}, which is not decoded; convert it to one of {known}"
        )
    what = "it holds text" if _is_text(data[:1024]) else "its first bytes belong to none of them"
    raise PictureError(PictureFault.NOT_A_PICTURE, f"this is no {known} picture: {what}")


_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
)
_FOREIGN = (
    ("a HEIC or HEIF picture", 4, b"ftyphei"),
    ("a HEIC or HEIF picture", 4, b"ftyphev"),
    ("a HEIC or HEIF picture", 4, b"ftypmif1"),
    ("a Canon raw picture", 4, b"ftypcrx"),
    ("a video", 4, b"ftyp"),
    ("a video", 0, b"\x1aE\xdf\xa3"),
    ("a PDF document", 0, b"%PDF"),
    ("a PostScript document", 0, b"%!PS"),
    ("a Photoshop document", 0, b"8BPS"),
    ("a JPEG 2000 picture", 0, b"\0\0\0\x0cjP"),
    ("a JPEG XL picture", 0, b"\0\0\0\x0cJXL"),
    ("a JPEG XL picture", 0, b"\xff\x0a"),
    ("an icon file", 0, b"\0\0\1\0"),
    ("a zip archive", 0, b"PK\3\4"),
    ("a gzip archive", 0, b"\x1f\x8b"),
)


def _is_text(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # not just a character cut in two at the end
            return False
    return b"\0" not in start


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise PictureError(
            PictureFault.TOO_MANY_PIXELS,
            f"the picture has {width} x {height} = {width * height:,} pixels; at most {limits.max_pixels:,} are "
            "decoded (PHOSPHENE_MAX_PIXELS)",
        )
    if width < 1 or height < 1:
        raise PictureError(PictureFault.BROKEN, f"the picture has no pixels ({width} x {height})")


def _exif_orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # whatever is wrong with EXIF data, the pixels are good
        return 1
    return value if isinstance(value, int) else 1


def _fault_of(error: Exception, data: bytes, kind: str) -> PictureError:
    name = FORMATS[kind]
    reason = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in reason.lower() or isinstance(error, EOFError) or _is_cut_short(data, kind):
        return PictureError(PictureFault.TRUNCATED, f"the {name} file ends before the picture does: was it cut off?")
    if isinstance(error, UnidentifiedImageError):
        reason = "its header can't be read, or it is of a rare kind"
    return PictureError(PictureFault.BROKEN, f"the {name} file is damaged: {reason}")


def _is_cut_short(data: bytes, kind: str) -> bool:
    """Tell from the container whether its end is missing; for formats that say how long they are."""
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "PNG":
        return b"IEND" not in data[-64:]
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    return False
