"""prepare: tensors that an attack computes once per cell, before the first batch, from the attacker's own examples."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import PreparedAttack
from benchmark.data import Examples
from benchmark.errors import AttackFault, StoreError
from benchmark.records.durable import checked_tensors, save_checked, set_aside
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.job import Job, call_guarded, target_of
from benchmark.stages.settle import with_fixed_region

__all__ = ["PREPARED", "Prepared", "first_of_each_label", "prepare"]

PREPARED = "prepared.safetensors"


@dataclass(frozen=True)
class Prepared:
    """Tensors prepared by an attack. forwards, backwards: passes used. seconds: wall time."""

    tensors: dict[str, Tensor]
    forwards: int
    backwards: int
    seconds: float

    def save(self, folder: Path) -> None:
        """Write the tensors among the finished batches of a cell, atomically."""
        tensors = {f"tensors.{name}": value.cpu().contiguous().clone() for name, value in self.tensors.items()}
        tensors["cost"] = torch.tensor([self.forwards, self.backwards, self.seconds], dtype=torch.float64)
        save_checked(tensors, folder / PREPARED)

    @classmethod
    def load(cls, folder: Path) -> Prepared | None:
        """Read a file written by `save`; None if it is missing, or broken and now set aside."""
        path = folder / PREPARED
        if not path.is_file():
            return None
        try:
            stored, _ = checked_tensors(path)
        except StoreError as error:
            set_aside(path, str(error).removeprefix(f"{path} "))
            return None
        forwards, backwards, seconds = stored.pop("cost").tolist()
        tensors = {name.removeprefix("tensors."): value for name, value in stored.items()}
        return cls(tensors, int(forwards), int(backwards), seconds)


def prepare(job: Job, device: torch.device) -> dict[str, Tensor] | None:
    """Prepare the attack of a job, unless an earlier session or another process did; returns the tensors, on `device`.

    None if the attack prepares nothing, or no example is left to attack. The systems must be on `device`.

    Raises:
        AttackFault: if it does not return tensors by name, or touched anything but its own tensors.
    """
    if not isinstance(job.attack, PreparedAttack) or (job.survivors is not None and job.survivors.left == 0):
        return None
    made = Prepared.load(job.folder)
    if made is None:
        made = _made(job, job.attack, device)
        made.save(job.folder)
    return {name: value.to(device) for name, value in made.tensors.items()}


def _made(job: Job, attack: PreparedAttack, device: torch.device) -> Prepared:
    assert job.owned is not None
    begun = time.perf_counter()
    known = job.owned.examples.take(first_of_each_label(job.owned.examples, attack.examples))
    x, y = known.x().to(device), known.y.to(device)
    rng = SampleRandom(derive_seed(job.seed, "prepare"), known.ids.to(device))
    threat = with_fixed_region(job.threat, job.system, x, y, rng)
    target = target_of(job, threat, threat.around(x, rng), rng)
    tensors = call_guarded(job, partial(attack.prepare, target, threat=threat, rng=rng), x, y)
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise AttackFault(
            f"{type(attack).__name__}.prepare returned {repr(tensors)[:60]}; expected tensors by name: its author "
            "must fix it"
        )
    ledger = target.ledger
    passes = int(ledger.forwards.sum()), int(ledger.backwards.sum())
    return Prepared({n: v.detach() for n, v in tensors.items()}, *passes, time.perf_counter() - begun)


def first_of_each_label(examples: Examples, count: int) -> Tensor:
    """Positions of the first example of each label, then of the second, and so on, at most `count`, (M,) int64."""
    y = examples.y
    if y.ndim > 1:  # of examples with several labels the first ones
        return torch.arange(min(count, len(y)))
    order = y.argsort(stable=True)
    numbers = torch.bincount(y)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(y)) - (numbers.cumsum(0) - numbers)[y[order]]
    return (rank * len(numbers) + y).argsort()[:count]
