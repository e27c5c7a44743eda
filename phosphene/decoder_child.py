"""The process that decodes: started by `phosphene.decoding`, answers one request after another on its standard input.

It imports Pillow and numpy only, so that it is small, and everything it needs before it gives up its rights.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import socket
import sys
import warnings
from dataclasses import asdict
from importlib import import_module

from PIL import AvifImagePlugin, Image

from phosphene.decoder_memory import attach, has_room
from phosphene.decoder_wire import OUT_OF_MEMORY, Closed, Frame, receive_frame, send_frame
from phosphene.errors import PictureError, PictureFault
from phosphene.images import THUMBNAIL_SIDE, Limits, fit, open_picture, picture_attributes, thumbnail
from phosphene.sandbox import die_with_parent, forbid_network_and_programs, limit_cpu, limit_resources
from phosphene.types import Pixels, PixelSpec

_PLUGINS = ("Avif", "Bmp", "Gif", "Jpeg", "Mpo", "Png", "Tiff", "WebP")


def main() -> None:
    """Set up and serve until the parent closes the channel."""
    parent, max_pixels, max_bytes, memory_bytes, cpu_s, file = (int(word) for word in sys.argv[1:7])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    die_with_parent(parent)
    channel = socket.socket(fileno=os.dup(0))
    memory = attach(file)
    limits = Limits(max_pixels=max_pixels, max_bytes=max_bytes)
    Image.MAX_IMAGE_PIXELS = max_pixels  # for frames and tiles whose size the header does not tell
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    _warm_up(limits)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    gc.freeze()
    limit_resources(memory_bytes=memory_bytes)
    forbid_network_and_programs()
    send_frame(channel, {"ready": True}, [])
    os.dup2(nowhere, 2)  # libtiff prints there; nobody reads it from now on
    while True:
        try:
            request = receive_frame(channel, max_body_bytes=max_bytes)
            limit_cpu(cpu_s)
            header, pixels, rest = _answer(request, limits)
            send_frame(channel, header, [*_put(pixels, memory), rest])
        except Closed:
            return
        except MemoryError:
            os._exit(OUT_OF_MEMORY)  # a fresh process has no holes in its memory


def _warm_up(limits: Limits) -> None:
    """Load what Pillow loads on first use, plugins and codecs' tables: the sandbox may refuse it later."""
    for name in _PLUGINS:
        import_module(f"PIL.{name}ImagePlugin")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each thread takes a share of the address space
    sample = Image.new("RGB", (8, 8))
    picture_attributes(*open_picture(thumbnail(sample, 8), limits))


def _put(pixels: Pixels | None, memory: mmap.mmap | None) -> list[memoryview]:
    """Write the pixels into the shared memory; give what has no room there and goes over the socket."""
    if pixels is None:
        return []
    data = pixels.data.cast("B")
    if not has_room(memory, len(data)):
        return [data]
    memory[: len(data)] = data
    return []


def _answer(request: Frame, limits: Limits) -> tuple[dict[str, object], Pixels | None, bytes]:
    """Give a header, the pixels if they are asked for, and the picture as JPEG, or b""."""
    try:
        data = bytes(request.body)
        request.body.clear()
        side = request.header.get("side")
        if side is not None:
            picture, _ = open_picture(data, limits, shortest_side=side)
            return {}, None, thumbnail(picture, side)
        spec = PixelSpec(**request.header["spec"]) if request.header["spec"] is not None else None
        picture, info = open_picture(
            data, limits, shortest_side=max(THUMBNAIL_SIDE, spec.size if spec is not None else 0)
        )
        pixels = fit(picture, spec) if spec is not None else None
        wants_all = request.header["thumbnail"]
        small = thumbnail(picture, THUMBNAIL_SIDE) if wants_all else b""
        attributes = picture_attributes(picture, info).as_json() if wants_all else None
    except PictureError as error:
        return {"fault": error.fault.value, "message": str(error)}, None, b""
    except (ValueError, OSError, SyntaxError) as error:
        return {"fault": PictureFault.BROKEN.value, "message": f"the picture can't be processed: {error}"}, None, b""
    header: dict[str, object] = {
        "info": asdict(info),
        "pixels": list(pixels.shape) if pixels is not None else None,
        "attributes": attributes,
    }
    return header, pixels, small


if __name__ == "__main__":
    main()
