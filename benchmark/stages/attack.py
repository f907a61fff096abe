"""attack: run the plugin, batch by batch and device by device; every finished batch is stored.

The result of a batch depends only on its examples, so the numbers of batches, processes and sessions do not matter.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark import registry
from benchmark.config.declared import declared_passes
from benchmark.config.schema import Trainer
from benchmark.errors import AttackFault, message_of
from benchmark.stages.batch import Attacked, attack_batch
from benchmark.stages.devices import device_of, exact_math
from benchmark.stages.job import Job
from benchmark.stages.parts import batches_of, finished_parts, gaps, join_parts, save_part, set_broken_aside
from benchmark.stages.prepare import prepare
from benchmark.stages.quiet import QuietInChild, quiet_lightning

__all__ = ["attack", "share"]


Telling = Callable[[str, int, int], None]
"""Called with ("attack", done, total) examples after each batch, and with ("passes", made, declared) within one."""


def attack(job: Job, trainer: Trainer, progress: Telling) -> Attacked:
    """Attack all remaining examples of the job, and join the parts."""
    share(job, trainer, progress)
    while set_broken_aside(job.folder):  # of an earlier sitting; what was made now is whole
        share(job, trainer, progress)
    return join_parts(job)


def share(job: Job, trainer: Trainer, progress: Telling) -> None:
    """Attack the remaining examples, alone or with other processes; returns when all parts are stored."""
    job.folder.mkdir(parents=True, exist_ok=True)
    spared = None if job.survivors is None else job.survivors.broken(job.examples.ids).tolist()
    todo = batches_of(gaps(finished_parts(job.folder), len(job.examples)), job.batch_size, spared)
    if trainer.devices * trainer.nodes > 1:
        _attack_in_processes(job, trainer, todo)
        progress("attack", len(job.examples), len(job.examples))
    else:
        _attack_ranges(job, todo, device_of(trainer), progress)


def _attack_ranges(job: Job, todo: Sequence[tuple[int, int]], device: torch.device, progress: Telling) -> None:
    job.system.to(device)
    job.attacker_view.to(device)
    job = dataclasses.replace(job, prepared=prepare(job, device) if todo else None)
    total = len(job.examples)
    done = total - sum(stop - start for start, stop in todo)
    each = declared_passes(registry.settings(job.attack))
    each = each if job.threat.queries is None else min(each, job.threat.queries)

    def told(passes: Tensor) -> None:
        made = each * done + float(passes.clamp_max(math.ceil(each)).sum())
        progress("passes", min(int(made), int(each * total)), int(each * total))

    job = dataclasses.replace(job, told=told)
    with exact_math():
        for start, stop in todo:
            _attack_range(job, start, stop, device)
            done += stop - start
            progress("attack", done, total)


def _attack_range(job: Job, start: int, stop: int, device: torch.device) -> None:
    """Attack one range and store it; halve the range as long as memory is insufficient."""
    positions = torch.arange(start, stop)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        part = attack_batch(
            job,
            job.examples.x(positions).to(device),
            job.examples.y[positions].to(device),
            job.examples.ids[positions].to(device),
        )
    except (RuntimeError, MemoryError) as error:
        if stop - start == 1 or not _out_of_memory(error):
            raise
    else:
        save_part(part, job.folder / f"part-{start:09d}-{stop:09d}.safetensors")
        return
    if device.type == "cuda":
        torch.cuda.empty_cache()
    middle = (start + stop) // 2
    _attack_range(job, start, middle, device)
    _attack_range(job, middle, stop, device)


def _out_of_memory(error: Exception) -> bool:
    text = message_of(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in text or "can't alloc" in text


def _attack_in_processes(job: Job, trainer: Trainer, todo: Sequence[tuple[int, int]]) -> None:
    """Distribute the batches over processes, with Lightning Fabric."""
    from lightning_fabric import Fabric

    with quiet_lightning():
        fabric = Fabric(
            accelerator=trainer.accelerator, devices=trainer.devices, num_nodes=trainer.nodes, strategy=trainer.strategy
        )
        # Bound beforehand, since Fabric looks into the arguments that it passes on and takes no frozen dataclasses.
        fabric.launch(functools.partial(_worker, job=job, todo=list(todo), quiet=QuietInChild()))


def _worker(fabric: Any, job: Job, todo: list[tuple[int, int]], quiet: QuietInChild) -> None:
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // fabric.world_size))
    if todo and fabric.global_rank == 0:  # one process prepares, if there is anything to prepare; the others read it
        job.system.to(fabric.device)
        job.attacker_view.to(fabric.device)
        _together(fabric, lambda: prepare(job, fabric.device))
    else:
        _together(fabric, lambda: None)
    todo = fabric.broadcast(todo)  # processes that started at different times may see different parts on disk
    mine = todo[fabric.global_rank :: fabric.world_size]
    _together(fabric, lambda: _attack_ranges(job, mine, fabric.device, lambda _stage, _done, _total: None))


def _together(fabric: Any, work: Callable[[], object]) -> None:
    """Do this process's work, and wait for the others: all fail if one does, so that none waits for it later.

    Raises:
        AttackFault: if only another process failed.
    """
    failed = None
    try:
        work()
    except Exception as error:
        failed = error
    mine = "" if failed is None else f"{type(failed).__name__}: {message_of(failed)}"
    said = [fabric.broadcast(mine, src=rank) for rank in range(fabric.world_size)]
    if failed is not None:
        raise failed
    others = [f"process {rank} of {fabric.world_size} failed: {why}" for rank, why in enumerate(said) if why]
    if others:
        raise AttackFault(others[0])
