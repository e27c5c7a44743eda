"""Memory that a decoder process and its parent share, for pixels: an anonymous file, where the platform gives one.

It has no name, so nothing is left of it once both are gone, however they end, and it is no part of /dev/shm, which
containers keep small. Its length is sealed before a decoder has it: reading on in a file that was cut short would end
the parent by SIGBUS. What does not fit goes over the socket, as all pixels do where there are no such files (macOS).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from typing import TypeGuard

SHARED_BYTES = 3 << 20  # 1024 x 1024 pixels, more than encoders see; the kernel gives memory only to what is written
NO_FILE = -1


def share() -> tuple[mmap.mmap | None, int]:
    """Make it: mapped for reading, and the descriptor to hand on and to close. (None, NO_FILE) where there is none."""
    if sys.platform != "linux":
        return None, NO_FILE
    try:
        file = os.memfd_create("phosphene-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:  # vm.memfd_noexec, a sandbox around us
        return None, NO_FILE
    try:
        os.ftruncate(file, SHARED_BYTES)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return mmap.mmap(file, SHARED_BYTES, access=mmap.ACCESS_READ), file
    except OSError:
        os.close(file)
        return None, NO_FILE


def attach(file: int) -> mmap.mmap | None:
    """Map it for writing, in the decoder; None for NO_FILE."""
    if file == NO_FILE:
        return None
    memory = mmap.mmap(file, SHARED_BYTES)
    os.close(file)
    return memory


def has_room(memory: mmap.mmap | None, length: int) -> TypeGuard[mmap.mmap]:
    """Tell whether so many bytes go there; both sides ask, each with the length that it knows by itself."""
    return memory is not None and length <= len(memory)
