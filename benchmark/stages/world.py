"""Processes started by an outside launcher (torchrun, srun): one leads and writes, the others lend their devices."""

from __future__ import annotations

import os

from benchmark.config.schema import Trainer

__all__ = ["barrier", "is_follower", "suffix"]


def is_follower(trainer: Trainer) -> bool:
    """True if this process is one of several under an outside launcher, and not the first."""
    outside = trainer.strategy == "ddp" and trainer.devices * trainer.nodes > 1
    return outside and _rank() > 0


def suffix(trainer: Trainer) -> str:
    """Suffix of a follower's own folders; empty for the leader."""
    return f".{_rank()}" if is_follower(trainer) else ""


def _rank() -> int:
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def barrier() -> None:
    """Wait until every process is here; returns at once for a single process."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
