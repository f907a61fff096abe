"""attack: the plugin proposes, batch by batch and device by device; every finished batch is on disk.

One batch is a function of the examples in it and of nothing else, so it does not matter in how many batches, in how
many processes or in how many sittings the examples are attacked.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Attack, Certifier, Examples
from benchmark.certify import certify
from benchmark.config import Trainer
from benchmark.errors import AttackFault
from benchmark.outcomes import NORMS, WITNESS, Outcomes, Witness, concatenate
from benchmark.quiet import QuietInChild, quiet_lightning
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.system import System
from benchmark.target import Target
from benchmark.threat import Goal, Threat
from benchmark.verify import Answer, Verdict, answer, judge

__all__ = ["Attacked", "AuditCounts", "Job", "attack", "attack_batch", "device_of", "exact_math", "goal_labels"]


@dataclass(frozen=True)
class Job:
    """What a worker needs to attack any part of a cell.

    system: what is judged. seen: what the attacker works on: the system itself, its undefended model, or a surrogate.
    examples: the cell's example list. folder: where finished batches are kept.
    """

    attack: Attack
    threat: Threat
    system: System
    seen: System
    examples: Examples
    seed: int
    batch_size: int
    folder: Path
    certifiers: tuple[Certifier, ...] = ()


@dataclass(frozen=True)
class AuditCounts:
    """How many candidates of attacked examples left the threat, and in which respect."""

    outside_ball: int = 0
    outside_box: int = 0
    outside_region: int = 0
    non_finite: int = 0

    def __add__(self, other: AuditCounts) -> AuditCounts:
        mine, theirs = vars(self), vars(other)
        return AuditCounts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class Attacked:
    """What is known of some examples after the attack. witness: of one batch; that of a cell is a file."""

    outcomes: Outcomes
    audit: AuditCounts
    seconds: float
    peak_memory_bytes: int
    witness: Witness | None = None


def attack(job: Job, trainer: Trainer, progress: Callable[[int, int], None]) -> Attacked:
    """Attack every example of the job that is not yet attacked, and join the parts.

    Args:
        progress: called with (done, total) after each batch.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    todo = _batches(_gaps(_parts(job.folder), len(job.examples)), job.batch_size)
    if trainer.devices * trainer.nodes > 1:
        _attack_in_processes(job, trainer, todo)
        progress(len(job.examples), len(job.examples))
    else:
        _attack_ranges(job, todo, device_of(trainer), progress)
    return _join(job)


def device_of(trainer: Trainer) -> torch.device:
    """The device of a single process."""
    if trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


# --- which examples, and where ---


def _parts(folder: Path) -> list[tuple[int, int, Path]]:
    """The finished batches, in order: first position, position after the last, file."""
    found = []
    for path in folder.glob("part-*-*.safetensors"):
        _, start, stop = path.stem.split("-")
        found.append((int(start), int(stop), path))
    return sorted(found)


def _gaps(parts: Sequence[tuple[int, int, Path]], total: int) -> list[tuple[int, int]]:
    """The ranges of positions that no part covers."""
    gaps, at = [], 0
    for start, stop, _ in parts:
        if start > at:
            gaps.append((at, start))
        at = max(at, stop)
    return [*gaps, (at, total)] if at < total else gaps


def _batches(ranges: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    return [(i, min(i + size, stop)) for start, stop in ranges for i in range(start, stop, size)]


def _attack_ranges(
    job: Job, todo: Sequence[tuple[int, int]], device: torch.device, progress: Callable[[int, int], None]
) -> None:
    job.system.to(device)
    job.seen.to(device)
    total = len(job.examples)
    done = total - sum(stop - start for start, stop in todo)
    with exact_math():
        for start, stop in todo:
            _attack_range(job, start, stop, device)
            done += stop - start
            progress(done, total)


def _attack_range(job: Job, start: int, stop: int, device: torch.device) -> None:
    """Attack one range and keep it on disk; halved for as long as memory does not suffice."""
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
        _save(part, job.folder / f"part-{start:09d}-{stop:09d}.safetensors")
        return
    if device.type == "cuda":
        torch.cuda.empty_cache()
    middle = (start + stop) // 2
    _attack_range(job, start, middle, device)
    _attack_range(job, middle, stop, device)


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in text or "can't alloc" in text


def _attack_in_processes(job: Job, trainer: Trainer, todo: Sequence[tuple[int, int]]) -> None:
    """Share the batches out over processes, with Lightning Fabric."""
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
    todo = fabric.broadcast(todo)  # processes that started at different times may see different parts on disk
    _attack_ranges(job, todo[fabric.global_rank :: fabric.world_size], fabric.device, lambda _done, _total: None)
    fabric.barrier()


@contextlib.contextmanager
def exact_math() -> Iterator[None]:
    """Deterministic kernels and full single precision, so that a result can be reproduced."""
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


# --- one batch ---


def attack_batch(job: Job, x: Tensor, y: Tensor, ids: Tensor) -> Attacked:
    """Attack the examples of one batch that the system gets right, and judge what comes back.

    Args:
        x: (B, *S). y, ids: (B,).

    Raises:
        AttackFault: if the attack breaks the contract in a way that spoils more than its own candidates.
    """
    rng = SampleRandom(derive_seed(job.seed, "cell"), ids)
    clean = answer(job.system, x, y, rng.child("clean"))
    correct = clean.label == y
    rows = correct.nonzero().squeeze(1)
    begun = time.perf_counter()
    certified = certify(job.certifiers, job.system, x, y, correct, threat=job.threat, rng=rng.child("certify"))
    if len(rows) == 0:
        return _assemble(job, x, y, ids, clean, certified, rows, None, None, time.perf_counter() - begun)
    mine = rng.rows(rows)
    goal = goal_labels(job.threat.goal, y[rows], clean.logits[rows], mine)
    threat = job.threat
    target = Target(
        job.seen,
        rng=mine.child("system"),
        classes=job.system.spec.classes,
        access=threat.access,
        queries=threat.queries,
        eot=threat.eot,
        randomized=job.seen.randomized,
        detectors=job.seen.detectors,
    )
    candidate = _propose(job, target, x[rows], y[rows] if goal is None else goal, mine)
    can = job.attack.supports
    verdict = judge(
        job.system,
        threat.around(x[rows], mine),
        candidate,
        y[rows],
        goal,
        mine.child("verdict"),
        minimal=can.minimal,
        bounded=can.bounded,
    )
    seconds = time.perf_counter() - begun
    return _assemble(job, x, y, ids, clean, certified, rows, (verdict, candidate), target, seconds)


def goal_labels(goal: Goal, y: Tensor, logits: Tensor, rng: SampleRandom) -> Tensor | None:
    """(B,) the labels to reach, none of them the true one; None for an untargeted threat."""
    classes = logits.shape[1]
    if goal is Goal.untargeted:
        return None
    if goal is Goal.next_class:
        return (y + 1) % classes
    if goal is Goal.random_class:
        return (y + 1 + rng.integers(classes - 1, 1, stream="goal").squeeze(1)) % classes
    worst = logits.scatter(1, y[:, None], torch.inf).argmin(1)
    return worst


def _propose(job: Job, target: Target, x: Tensor, y: Tensor, rng: SampleRandom) -> Tensor:
    """The attack's candidates, after checks that nothing but its own tensors was touched."""
    owner = registry.owner_of(type(job.attack))
    name = f"{owner.full_name} from {owner.owner}"
    x_given, y_given = x.clone(), y.clone()
    before = _generators(x.device)
    candidate = job.attack.perturb(target, x_given, y_given, threat=job.threat, rng=rng)
    if _generators(x.device) != before:
        raise AttackFault(
            f"{name} drew from a global random generator; randomness must come from `rng`, or no result of it can be "
            "reproduced: its author must mend it"
        )
    if not (torch.equal(x_given, x) and torch.equal(y_given, y)):
        raise AttackFault(f"{name} changed its input in place; it must work on a copy: its author must mend it")
    if not isinstance(candidate, Tensor) or candidate.shape != x.shape or candidate.dtype != x.dtype:
        shape = f"{tuple(candidate.shape)} {candidate.dtype}" if isinstance(candidate, Tensor) else repr(candidate)[:60]
        raise AttackFault(
            f"{name} returned {shape}; expected {tuple(x.shape)} {x.dtype}, one candidate per input: its author must "
            "mend it"
        )
    return candidate.detach()


def _generators(device: torch.device) -> tuple[Any, ...]:
    """The states of the global generators that an attack must leave alone."""
    numpy_state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - the global state is what is watched
    states: list[Any] = [torch.get_rng_state().numpy().tobytes(), random.getstate(), numpy_state[1].tobytes()]
    states += numpy_state[2:]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(states)


def _assemble(
    job: Job,
    x: Tensor,
    y: Tensor,
    ids: Tensor,
    clean: Answer,
    certified: Tensor,
    rows: Tensor,
    judged: tuple[Verdict, Tensor] | None,
    target: Target | None,
    seconds: float,
) -> Attacked:
    """Spread what is known of the attacked rows over the whole batch."""
    count, device = len(y), y.device
    full: dict[str, Tensor] = {
        "adv_label": clean.label,
        "valid": torch.ones(count, dtype=torch.bool, device=device),
        "adversarial": torch.zeros(count, dtype=torch.bool, device=device),
        "broken": torch.zeros(count, dtype=torch.bool, device=device),
        "robust_top5": clean.top5,
        "excess": torch.zeros(count, device=device),
        "forwards": torch.zeros(count, dtype=torch.int64, device=device),
        "backwards": torch.zeros(count, dtype=torch.int64, device=device),
        "zero_gradient": torch.zeros(count, dtype=torch.bool, device=device),
        "bad_gradient": torch.zeros(count, dtype=torch.bool, device=device),
        **{norm: torch.full((count,), torch.inf, device=device) for norm in NORMS},
    }
    witness = Witness(ids[:0].cpu(), x[:0].cpu())
    audit = AuditCounts()
    if judged is not None and target is not None:
        verdict, candidate = judged
        known = {
            "adv_label": torch.where(verdict.valid, verdict.label, clean.label[rows]),
            "valid": verdict.valid,
            "adversarial": verdict.adversarial,
            "broken": verdict.broken,
            "robust_top5": verdict.top5 & clean.top5[rows],
            "excess": verdict.excess,
            "forwards": target.ledger.forwards,
            "backwards": target.ledger.backwards,
            "zero_gradient": target.ledger.zero_gradient,
            "bad_gradient": target.ledger.bad_gradient,
            **verdict.distances,
        }
        full = {name: value.index_copy(0, rows, known[name]) for name, value in full.items()}
        kept = verdict.adversarial
        witness = Witness(ids[rows][kept].cpu(), candidate[kept].cpu())
        audit = AuditCounts(
            int(verdict.outside_ball.sum()),
            int(verdict.outside_box.sum()),
            int(verdict.outside_region.sum()),
            int(verdict.non_finite.sum()),
        )
    attacked = torch.zeros(count, dtype=torch.bool, device=device)
    attacked[rows] = True
    outcomes = Outcomes(
        ids=ids,
        y=y,
        clean_label=clean.label,
        clean_correct=clean.label == y,
        clean_top5=clean.top5,
        attacked=attacked,
        certified=certified,
        **full,
    )
    return Attacked(outcomes, audit, seconds, _peak_memory(device), witness)


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the device's allocator, or the largest resident size of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# --- parts on disk ---


def _save(part: Attacked, path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {f"outcomes.{k}": v.cpu().contiguous().clone() for k, v in part.outcomes.tensors().items()}
    assert part.witness is not None
    tensors |= {"witness.ids": part.witness.ids.contiguous(), "witness.x_adv": part.witness.x_adv.contiguous()}
    tensors["audit"] = torch.tensor(list(vars(part.audit).values()))
    tensors["cost"] = torch.tensor([part.seconds, float(part.peak_memory_bytes)], dtype=torch.float64)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, str(temporary))
    temporary.replace(path)


def _join(job: Job) -> Attacked:
    """All parts as one, in the order of the examples; the witness goes to disk without passing through memory."""
    from safetensors import safe_open

    outcomes, audit, seconds, peak = [], AuditCounts(), 0.0, 0.0
    paths = [path for _, _, path in _parts(job.folder)]
    for path in paths:
        with safe_open(str(path), "pt") as part:
            names = [name for name in part.keys() if name.startswith("outcomes.")]  # noqa: SIM118 - it is no dict
            outcomes.append(Outcomes(**{n.removeprefix("outcomes."): part.get_tensor(n) for n in names}))
            audit += AuditCounts(*(int(v) for v in part.get_tensor("audit")))
            cost = part.get_tensor("cost")
        seconds += float(cost[0])
        peak = max(peak, float(cost[1]))
    concatenate(paths, {"ids": "witness.ids", "x_adv": "witness.x_adv"}, job.folder / WITNESS)
    return Attacked(Outcomes.join(outcomes), audit, seconds, int(peak))
