"""What a decoder process and its parent say to each other: frames of a JSON header and raw bytes over a socket.

Never pickle: the child handles hostile pictures, and what it sends back is read as data only.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

_LENGTHS = struct.Struct("!II")  # of the header and of the body, bytes
_MAX_HEADER_BYTES = 64 * 1024
OUT_OF_MEMORY = 3  # exit status of a decoder that hit its limit


@dataclass(frozen=True, slots=True)
class Frame:
    """One request or answer."""

    header: dict[str, Any]
    body: bytearray


class Closed(Exception):
    """The other side is gone, or said something that is no frame."""


def send_frame(
    channel: socket.socket, header: dict[str, Any], body: Sequence[bytes | memoryview], *, deadline: float | None = None
) -> None:
    """Send a header and a body given in parts. `deadline` is of time.monotonic(); raises TimeoutError, Closed."""
    head = json.dumps(header).encode()
    parts = [_LENGTHS.pack(len(head), sum(len(part) for part in body)) + head, *body]
    try:
        for part in parts:
            _allow_until(channel, deadline)
            channel.sendall(part)
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed(str(error)) from error


def receive_frame(channel: socket.socket, *, max_body_bytes: int, deadline: float | None = None) -> Frame:
    """Wait for a frame. Raises TimeoutError, and Closed where the other side ended or sent nonsense."""
    header_length, body_length = _LENGTHS.unpack(_receive(channel, _LENGTHS.size, deadline))
    if header_length > _MAX_HEADER_BYTES or body_length > max_body_bytes:
        raise Closed(f"a frame of {header_length} + {body_length} bytes is too large")
    try:
        header = json.loads(_receive(channel, header_length, deadline), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Closed(f"a frame without a header: {error}") from error
    if not isinstance(header, dict):
        raise Closed("a frame without a header")
    return Frame(header, _receive(channel, body_length, deadline))


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _receive(channel: socket.socket, length: int, deadline: float | None) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    try:
        while view:
            _allow_until(channel, deadline)
            received = channel.recv_into(view)
            if received == 0:
                raise Closed("the other side ended")
            view = view[received:]
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed(str(error)) from error
    return data


def _allow_until(channel: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    channel.settimeout(remaining)
