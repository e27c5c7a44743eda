"""The image tower of a model, compiled by torch where that works, and how many pictures a device takes best at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FIRST_BATCH = 64  # pictures; on a CPU more at once are not quicker
MOST_AT_ONCE = 512
FULL_SHARE = 0.8  # of a device's memory: the rest is for texts, and for what a longer run breaks into pieces
WORTH = 1.05  # so much quicker must a batch of twice the size be, picture by picture

log = logging.getLogger(__name__)


class CompiledTower:
    """Calls `eager`, pictures (n, 3, h, w) -> (n, d), compiled for any n; where that fails it goes on as it was."""

    def __init__(self, eager: Callable[[torch.Tensor], torch.Tensor], *, backend: str, model: str) -> None:
        import torch  # here already

        self._eager, self._model = eager, model
        # torch compiles for the first n, and for any other when it meets one
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = torch.compile(eager, backend=backend)

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Embed pictures. Raises what `eager` raises."""
        import torch  # here already

        compiled = self._compiled
        if compiled is None:
            return self._eager(pictures)
        try:
            return compiled(pictures)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001  a compiler fails in many ways
            embedded = self._eager(pictures)  # where this fails too it was not the compiler
            self._compiled = None
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1])  # which backend, and then why
            log.warning("%s can't be compiled here and runs as it is (PHOSPHENE_COMPILE): %s", self._model, reason)
            return embedded


def best_batch_size(
    rate: Callable[[int], float],
    *,
    share: Callable[[], float],
    no_room: type[Exception],
    first: int = FIRST_BATCH,
    most: int = MOST_AT_ONCE,
) -> int:
    """Find how many pictures at once are quickest on a device, by trying: twice as many as long as that pays.

    `rate` gives pictures a second with n at once, and raises `no_room` where they don't fit; `share` tells how much of
    the memory was in use then, 0..1. Gives at least 1.
    """
    size, quickest = first, 0.0
    while quickest == 0.0:
        try:
            quickest = rate(size)
        except no_room:
            if size == 1:
                return 1
            size //= 2
    if size < first:
        return size
    while 2 * size <= most:
        try:
            quicker = rate(2 * size)
        except no_room:
            break
        if share() > FULL_SHARE or quicker < WORTH * quickest:
            break
        size, quickest = 2 * size, quicker
    return size
