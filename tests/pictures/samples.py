"""Pictures made by the tests: smooth random colours, in any format and state of repair."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from phosphene.images import Limits

LIMITS = Limits(max_pixels=50_000_000, max_bytes=64 * 2**20)
GPS_MARK = b"Nowhere"


def picture(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Smooth, so that lossy formats stay near it, and different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:  # noqa: ANN401  # Pillow's options
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(width: int = 64, height: int = 48, *, seed: int = 0, **options: Any) -> bytes:  # noqa: ANN401
    return encoded(picture(width, height, seed=seed), "JPEG", **options)


def corners() -> Image.Image:
    """40 x 20: red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", (40, 20), "white")
    image.paste("red", (0, 0, 20, 10))
    image.paste((0, 255, 0), (20, 0, 40, 10))
    image.paste("blue", (0, 10, 20, 20))
    return image


def exif(*, orientation: int = 1) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    data[0x010E] = "Nowhere"  # description
    data.get_ifd(0x8825)[1] = "N"
    data.get_ifd(0x8825)[2] = (47.0, 22.0, 33.0)
    return data.tobytes()


def cmyk_profile(*, lab_of_paper: tuple[int, int, int] = (255, 128, 128)) -> bytes:
    """A real, tiny ICC profile: ink of any colour becomes Lab red, no ink becomes `lab_of_paper` (8-bit Lab)."""
    red = (136, 208, 195)
    table = bytearray()
    for node in range(16):  # 2 grid points for each of C, M, Y, K
        table += bytes(lab_of_paper if node == 0 else red)
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(table) + ramp * 3
    text = b"ink to red\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"desc", description), (b"wtpt", white), (b"A2B0", lut)]
    directory, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        padded = data + bytes(-len(data) % 4)
        directory += name + struct.pack(">II", at, len(data))
        body += padded
        at += len(padded)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI3i4s44x",
        at, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", bytes(12), b"acsp", bytes(4), 0, 0, 0, 0, 0,
        63190, 65536, 54061, b"test",
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + directory + body
