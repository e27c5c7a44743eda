"""What a process that decodes hostile bytes gives up for good. Needs no root.

Memory, core dumps and files to write are limited everywhere POSIX is. On Linux the process also dies with its parent,
and a seccomp filter (x86-64 and arm64) takes away new sockets, other programs and other processes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

# Classic BPF, linux/filter.h and linux/seccomp.h.
_LOAD_WORD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_AT_LEAST = 0x35
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
_NR_OFFSET, _ARCH_OFFSET = 0, 4  # in struct seccomp_data

# socket, socketpair, connect, bind, ptrace, process_vm_readv, process_vm_writev, execve, execveat, io_uring_setup, kill
_FORBIDDEN = {
    "x86_64": (0xC000003E, (41, 53, 42, 49, 101, 310, 311, 59, 322, 425, 62)),
    "aarch64": (0xC00000B7, (198, 199, 203, 200, 117, 270, 271, 221, 281, 425, 129)),
}
_X32_CALLS = 0x40000000  # x86-64's second table of calls, which would go round the first


def die_with_parent(parent: int) -> None:
    """End this process as soon as the thread that started it ends, however that happens."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we asked
        os._exit(0)


def limit_resources(*, memory_bytes: int) -> None:
    """Cap the address space; no core dumps, no writing of files, few open ones."""
    for what, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(what, (allowed, hard))
        except (ValueError, OSError):  # macOS knows RLIMIT_AS but refuses it
            continue


def limit_cpu(seconds: int) -> None:
    """Allow this process so many more seconds of CPU time; then the kernel ends it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = used + max(seconds, 1) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def forbid_network_and_programs() -> bool:
    """Install the seccomp filter; False where the kernel or the machine has none."""
    known = _FORBIDDEN.get(platform.machine())
    if sys.platform != "linux" or known is None or sys.maxsize < 2**32:
        return False
    architecture, calls = known
    program = _filter(architecture, calls, refuse_x32=platform.machine() == "x86_64")
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        """struct sock_fprog."""

        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    address = Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1) and _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(address))


def _filter(architecture: int, calls: tuple[int, ...], *, refuse_x32: bool) -> bytes:
    """Assemble: another architecture or one of the calls -> EPERM; anything else -> allowed."""
    tests = [(_JUMP_EQUAL, call) for call in calls]
    if refuse_x32:
        tests.append((_JUMP_AT_LEAST, _X32_CALLS))
    instructions = [
        (_LOAD_WORD, 0, 0, _ARCH_OFFSET),
        (_JUMP_EQUAL, 0, len(tests) + 2, architecture),  # else to the refusal
        (_LOAD_WORD, 0, 0, _NR_OFFSET),
        *((test, len(tests) - at, 0, value) for at, (test, value) in enumerate(tests)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _prctl(option: int, *arguments: object) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    filled = [argument if not isinstance(argument, int) else ctypes.c_ulong(argument) for argument in arguments]
    filled += [ctypes.c_ulong(0)] * (4 - len(filled))
    return bool(libc.prctl(option, *filled) == 0)
