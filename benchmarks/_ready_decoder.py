"""A decoder process that decodes its first picture only, and then gives that again: what is left is the carrying.

Started by `benchmarks.decoder_pipe` in the place of `phosphene.decoder_child`.
"""

from __future__ import annotations

from phosphene import decoder_child
from phosphene.decoder_wire import Frame
from phosphene.images import Limits
from phosphene.types import Pixels

decode = decoder_child._answer  # noqa: SLF001  # all else of the real process stays as it is
ready: list[tuple[dict[str, object], Pixels | None, bytes]] = []


def answer(request: Frame, limits: Limits) -> tuple[dict[str, object], Pixels | None, bytes]:
    """Give what the first picture came to."""
    if not ready:
        ready.append(decode(request, limits))
    request.body.clear()
    return ready[0]


if __name__ == "__main__":
    decoder_child._answer = answer  # noqa: SLF001
    decoder_child.main()
