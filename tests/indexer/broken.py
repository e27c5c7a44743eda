"""Files that can't be used, each in its own way, and odd ones that can."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from phosphene.errors import PictureFault as Fault

MAX_PIXELS = 1_000_000  # the limit under which the bombs below are bombs
MAX_BYTES = 2_000_000


def encoded(kind: str, *, seed: int = 0, side: int = 64, mode: str = "RGB") -> bytes:
    noise = np.frombuffer(random.Random(seed).randbytes(side * side * 3), dtype=np.uint8).reshape(side, side, 3)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def png_of(width: int, height: int, data: bytes, *, depth: int = 1) -> bytes:
    """Write a grey PNG whose header says what it likes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _spoilt(data: bytes, *, at: float, length: int = 200) -> bytes:
    start = int(len(data) * at)
    return data[:start] + bytes(length) + data[start + length :]


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", encoded("JPEG"))
    return buffer.getvalue()


def _bytes_that_break() -> Iterator[tuple[str, bytes, Fault]]:
    jpeg, png, webp, gif = (encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF"))
    tiff, bmp, avif = (encoded(kind) for kind in ("TIFF", "BMP", "AVIF"))
    yield "empty.jpg", b"", Fault.EMPTY
    yield "empty.png", b"", Fault.EMPTY
    yield "text.jpg", b"These are words, not a picture.\n", Fault.NOT_A_PICTURE
    yield "utf16.jpg", "Words in UTF-16".encode("utf-16"), Fault.NOT_A_PICTURE
    yield "page.png", b"<!doctype html><html><body>404 Not Found</body></html>", Fault.NOT_A_PICTURE
    yield "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', Fault.UNSUPPORTED_FORMAT
    yield "json.webp", b'{"error": "not found"}', Fault.NOT_A_PICTURE
    yield "nulls.jpg", bytes(5000), Fault.NOT_A_PICTURE
    yield "ones.jpg", b"\xff" * 5000, Fault.NOT_A_PICTURE
    yield "noise.jpg", random.Random(1).randbytes(5000), Fault.NOT_A_PICTURE
    yield "one-byte.jpg", b"\xff", Fault.NOT_A_PICTURE
    yield "archive.jpg", _zip(), Fault.UNSUPPORTED_FORMAT
    yield "gzip.jpg", zlib.compress(jpeg, wbits=31), Fault.UNSUPPORTED_FORMAT
    yield "document.jpg", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", Fault.UNSUPPORTED_FORMAT
    yield "postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Fault.UNSUPPORTED_FORMAT
    yield "icon.png", encoded("ICO"), Fault.UNSUPPORTED_FORMAT
    yield "portable.jpg", encoded("PPM"), Fault.NOT_A_PICTURE
    yield "targa.jpg", encoded("TGA"), Fault.NOT_A_PICTURE
    yield "jpeg2000.jpg", encoded("JPEG2000"), Fault.UNSUPPORTED_FORMAT
    yield "photo.heic", b"\x00\x00\x00\x18ftypheic", Fault.UNSUPPORTED_FORMAT
    yield "photo.jxl", b"\xff\x0a", Fault.UNSUPPORTED_FORMAT
    yield "layers.psd", b"8BPS", Fault.UNSUPPORTED_FORMAT
    for name, data in {"jpg": jpeg, "png": png, "webp": webp, "gif": gif, "tiff": tiff, "bmp": bmp}.items():
        yield f"half.{name}", data[: len(data) // 2], Fault.TRUNCATED
        yield f"start.{name}", data[:24], Fault.BROKEN if name in ("gif", "tiff") else Fault.TRUNCATED
    yield "half.avif", avif[: len(avif) // 2], Fault.BROKEN
    yield "start.avif", avif[:24], Fault.BROKEN
    yield "most.jpg", jpeg[: int(len(jpeg) * 0.9)], Fault.TRUNCATED
    yield "bad-checksum.png", _spoilt(png, at=0.5, length=4), Fault.BROKEN
    yield "bad-data.png", png_of(64, 64, b"this is not deflated"), Fault.BROKEN
    yield "no-data.png", png_of(64, 64, zlib.compress(b"")), Fault.TRUNCATED
    yield "no-width.png", png_of(0, 64, zlib.compress(b"")), Fault.BROKEN
    yield "bomb.png", png_of(4000, 4000, zlib.compress(bytes(4000 * 501), 9)), Fault.TOO_MANY_PIXELS
    yield "liar.png", png_of(2**31 - 1, 2**31 - 1, zlib.compress(bytes(10))), Fault.TOO_MANY_PIXELS
    yield "wide.png", png_of(2_000_000, 1, zlib.compress(bytes(250_001))), Fault.TOO_MANY_PIXELS
    yield "bomb.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + gif[10:], Fault.TOO_MANY_PIXELS
    yield "bomb.jpg", _jpeg_of_size(65000, 65000), Fault.TOO_MANY_PIXELS
    yield "bomb.bmp", bmp[:18] + struct.pack("<ii", 50_000, 50_000) + bmp[26:], Fault.TOO_MANY_PIXELS
    yield "huge.jpg", jpeg + bytes(MAX_BYTES), Fault.TOO_MANY_BYTES


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("gone-before.jpg"))


def _circle(path: Path) -> None:
    path.symlink_to(path)


def _bad_sidecar(path: Path) -> None:
    path.write_bytes(encoded("PNG", seed=77))
    path.with_suffix(".json").write_text("{this is not JSON")


_FILES_THAT_BREAK: list[tuple[str, Callable[[Path], None], Fault]] = [
    ("dangling.jpg", _dangling, Fault.UNREADABLE),
    ("circle.jpg", _circle, Fault.UNREADABLE),
    ("pipe.jpg", os.mkfifo, Fault.UNREADABLE),
    ("sidecar.png", _bad_sidecar, Fault.BAD_METADATA),
]


def write_broken(folder: Path) -> dict[str, Fault]:
    """Write all files that can't be used; give their names and what is wrong with each."""
    faults: dict[str, Fault] = {}
    for name, data, fault in _bytes_that_break():
        (folder / name).write_bytes(data)
        faults[name] = fault
    for name, make, fault in _FILES_THAT_BREAK:
        make(folder / name)
        faults[name] = fault
    return faults


def write_odd(folder: Path) -> list[str]:
    """Write odd files that can be used: deep, printed, animated, turned, transparent, tiny …; give their names."""
    noise = np.frombuffer(random.Random(5).randbytes(32 * 32 * 3), dtype=np.uint8).reshape(32, 32, 3)
    picture = Image.fromarray(noise)
    frames = [Image.fromarray(np.roll(noise, shift, axis=0)) for shift in (1, 2, 3)]
    deep = Image.fromarray(np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 60)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.convert("CMYK").save(folder / "printed.jpg")
    picture.convert("CMYK").save(folder / "printed.tiff")
    picture.convert("L").save(folder / "grey.jpg")
    picture.convert("LA").save(folder / "grey-alpha.png")
    picture.convert("1").save(folder / "bits.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("RGBA").save(folder / "alpha.webp")
    picture.convert("LAB").save(folder / "lab.tiff")
    deep.save(folder / "deep.png")
    deep.save(folder / "deep.tiff")
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    frames[1].save(folder / "animated.webp", save_all=True, append_images=frames[2:])
    frames[2].save(folder / "animated.png", save_all=True, append_images=frames[:1])
    picture.save(folder / "turned.jpg", exif=exif)
    picture.save(folder / "progressive.jpg", progressive=True)
    picture.save(folder / "interlaced.PNG")
    picture.save(folder / "lossless.avif", quality=100)
    picture.resize((1, 1)).save(folder / "pixel.png")
    picture.resize((900, 2)).save(folder / "strip.png")
    picture.resize((30, 30)).save(folder / "right-bytes-wrong-name.gif", "JPEG")
    (folder / "trailing-junk.jpg").write_bytes(encoded("JPEG", seed=9) + b"junk after the end")
    (folder / os.fsdecode(b"latin-\xe9.png")).write_bytes(encoded("PNG", seed=10))
    return [path.name for path in folder.iterdir()]
