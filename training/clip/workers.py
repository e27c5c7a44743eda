"""Two processes of one thread each: on a busy small machine far better than one of two threads."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, ParamSpec

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.nn import Parameter

P = ParamSpec("P")
WORKERS = 2


def run_workers(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run `work` in WORKERS processes that can average gradients; returns when all are done."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_start, args=(port, work, args, kwargs), nprocs=WORKERS, join=True)  # type: ignore[no-untyped-call]


def average_gradients(parameters: Sequence[Parameter], *, max_norm: float) -> None:
    """Replace each gradient by its mean over the workers, clipped to `max_norm` in total."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= WORKERS
    flat *= min(1.0, max_norm / (float(flat.norm()) + 1e-6))
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def is_first() -> bool:
    """Whether this process is the one that prints and saves."""
    return distributed.get_rank() == 0


def _start(
    rank: int, port: int, work: Callable[..., None], args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=WORKERS)
    try:
        work(*args, **kwargs)
    finally:
        distributed.destroy_process_group()
