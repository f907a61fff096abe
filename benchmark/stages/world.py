"""Several processes that somebody else started (torchrun, srun): one leads and writes, the others lend devices."""

from __future__ import annotations

import os

from benchmark.config.schema import Trainer

__all__ = ["barrier", "is_follower", "suffix"]


def is_follower(trainer: Trainer) -> bool:
    """True if this process is one of several under an outside launcher, and not the first."""
    outside = trainer.strategy == "ddp" and trainer.devices * trainer.nodes > 1
    return outside and _rank() > 0


def suffix(trainer: Trainer) -> str:
    """The ending of the folders that a follower has for itself; empty for the process that leads."""
    return f".{_rank()}" if is_follower(trainer) else ""


def _rank() -> int:
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def barrier() -> None:
    """Wait until every process got here; at once where there is only one."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
