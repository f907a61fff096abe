"""Devices and reproducible arithmetic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from benchmark.config.schema import Trainer

__all__ = ["device_of", "exact_math", "largest_resident", "peak_memory"]


def device_of(trainer: Trainer) -> torch.device:
    """Device of a single process."""
    if trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextlib.contextmanager
def exact_math() -> Iterator[None]:
    """Use deterministic kernels and full single precision, for reproducible results."""
    before = (
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
    )
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before[0]
        torch.backends.cudnn.benchmark = before[1]
        torch.backends.cudnn.allow_tf32 = before[2]
        torch.set_float32_matmul_precision(before[3])


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the device's allocator, or the largest resident size of this process."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else largest_resident()


def largest_resident() -> int:
    """Largest resident size of this process in bytes.

    Linux tells it in /proc; what `getrusage` says there includes the size of the process that started this one.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
