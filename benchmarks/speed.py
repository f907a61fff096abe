"""Speed of the attacks against the model's own passes, and against the fastest peer that does the same.

python -m benchmarks.speed [--out FILE] [--device cuda] [--threads 1 2] [--rounds 7] prints ratios of medians of runs
that take turns in one process, and ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.pgd import PGD
from torch import Tensor

from benchmark.api import Attack
from benchmark.data import Examples
from benchmark.stages.batch import Job, attack_batch
from benchmark.threat import Norm, Threat
from benchmarks.peers import Budget, offers
from benchmarks.subjects import RESNET, STD_AND_ADV, Batch, Subject, subject
from benchmarks.timing import alternate, machine, ratio, table, write

THREATS = {
    "linf": Threat(norm=Norm.linf, eps=Fraction(1, 10)),
    "l2": Threat(norm=Norm.l2, eps=Fraction(1, 2)),
}
HEAD = ("what", "against", "ratio", "target", "met", "note")

Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Line:
    """One comparison: the ratio of times, and its target (None: there is no target)."""

    what: str
    against: str
    value: float
    target: float | None = None
    note: str = ""

    @property
    def good(self) -> bool:
        return self.target is None or self.value <= self.target

    def cells(self) -> tuple[object, ...]:
        met = "-" if self.target is None else "yes" if self.good else "NO"
        return (self.what, self.against, self.value, "-" if self.target is None else self.target, met, self.note)


def bare(subject: Subject, batch: Batch, count: int) -> Run:
    """`count` forward and backward passes of the model to the input, and nothing else; the last gradient."""
    cotangent = torch.ones_like(subject.system.logits(batch.x, batch.rng))

    def run() -> Tensor:
        gradient = batch.x
        for _ in range(count):
            leaf = batch.x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(subject.system(leaf), leaf, cotangent)
        return gradient

    return run


def alone(subject: Subject, attack: Attack, threat: Threat, batch: Batch) -> Run:
    """The attack as a peer is called."""
    return lambda: attack.perturb(subject.target(batch), batch.x, batch.y, threat=threat, rng=batch.rng)


def judged(subject: Subject, attack: Attack, threat: Threat, batch: Batch) -> Callable[[], object]:
    """The attack inside the harness: clean pass, guards, attack, verdict and all distances."""
    examples = Examples.of(batch.ids, batch.x, batch.y)
    job = Job(attack, threat, subject.system, subject.system, examples, 0, len(batch.y), Path())
    return lambda: attack_batch(job, batch.x, batch.y, batch.ids)


def peers(
    subject: Subject, attack: str, batch: Batch, budget: Budget, leave_out: tuple[str, ...] = ()
) -> dict[str, Run]:
    """The peers that have the attack, ready to run."""

    def ready(library: str) -> Run:
        attacker = offered[library](subject.system, budget)
        return lambda: attacker(batch.x, batch.y)

    offered = offers(attack, budget.norm)
    return {library: ready(library) for library in offered if library not in leave_out}


# --- the lines ---


def full_batch(
    subject: Subject, name: str, norm: str, steps: int, batch: Batch, target: float, rounds: int, device: str
) -> Iterator[Line]:
    """Every example to the last step, as all peers do it."""
    threat = THREATS[norm]
    step = 2.5 * threat.radius / steps if steps > 1 else threat.radius
    attack: Attack = FGSM() if steps == 1 else PGD(steps=steps, step_size=step, stop_on_success=False)
    budget = Budget(norm, threat.radius, steps, step, random_start=steps > 1)
    theirs = peers(subject, "fgsm" if steps == 1 else "pgd", batch, budget)
    runs: dict[str, Callable[[], object]] = {
        "bare": bare(subject, batch, steps),
        "ours": alone(subject, attack, threat, batch),
        "judged": judged(subject, attack, threat, batch),
        **theirs,
    }
    times = alternate(runs, rounds, device)
    what = f"{'FGSM' if steps == 1 else f'PGD-{steps}'} {norm}, {name}, batch {len(batch.y)}"
    yield Line(what, "bare passes", ratio(times, "ours", "bare"), target if steps > 1 else None)
    yield Line(f"{what}, with clean pass and verdict", "bare passes", ratio(times, "judged", "bare"))
    for library in theirs:
        note = f"which takes {ratio(times, library, 'bare'):.2f} of bare passes"
        yield Line(what, library, ratio(times, "ours", library), None, note)


def asked_for_success(
    subject: Subject, name: str, norm: str, batch: Batch, target: float, rounds: int, device: str
) -> Iterator[Line]:
    """PGD that leaves broken examples alone, against the fastest peer, which does not; what both break is counted."""
    steps, threat = 40, THREATS[norm]
    step = 2.5 * threat.radius / steps
    theirs = peers(subject, "pgd", batch, Budget(norm, threat.radius, steps, step, random_start=False), ("art",))
    attack = PGD(steps=steps, step_size=step, random_start=False)
    mine = alone(subject, attack, threat, batch)
    view = subject.target(batch)
    attack.perturb(view, batch.x, batch.y, threat=threat, rng=batch.rng)
    share = float(view.ledger.forwards.double().mean()) / steps
    times = alternate({"ours": mine, **theirs}, rounds, device)
    fastest = min(theirs, key=lambda library: ratio(times, library, "ours"))

    def broken(x_adv: Tensor) -> int:
        return int((subject.system.logits(x_adv.detach(), batch.rng).argmax(1) != batch.y).sum())

    wrong = f"wrong after ours {broken(mine())}, after {fastest} {broken(theirs[fastest]())} of {len(batch.y)}"
    note = f"passes {share:.2f}; {wrong}"
    what = f"PGD-{steps} {norm} until broken, small_cnn {name}, batch {len(batch.y)}"
    yield Line(what, fastest, ratio(times, "ours", fastest), target, note)


def deepfool(subject: Subject, name: str, norm: str, batch: Batch, rounds: int, device: str) -> Iterator[Line]:
    """DeepFool against the peer whose distances are right."""
    threat = THREATS[norm]
    theirs = peers(subject, "deepfool", batch, Budget(norm, threat.radius, 30), ("torchattacks",))
    runs = {
        "ours": alone(subject, DeepFool(steps=30), threat, batch),
        "ours, the paper's": alone(subject, DeepFool(steps=30, search_steps=0), threat, batch),
    }
    times = alternate({**runs, **theirs}, rounds, device)

    def median(x_adv: Tensor) -> str:
        delta = (x_adv.detach() - batch.x).flatten(1)
        size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        wrong = subject.system.logits(x_adv.detach(), batch.rng).argmax(1) != batch.y
        return f"{float(torch.where(wrong, size, torch.inf).median()):.4f} ({int(wrong.sum())} broken)"

    for library, run in theirs.items():
        for mine, ours in runs.items():
            what = f"DeepFool {norm}{mine.removeprefix('ours')}, small_cnn {name}, batch {len(batch.y)}"
            note = f"median distance {median(ours())}, theirs {median(run())}"
            yield Line(what, library, ratio(times, mine, library), 0.9, note)


def lines(store: Path, rounds: int, device: str) -> Iterator[Line]:
    """Every line of the table."""
    trained = {n: subject(store, device, "dataset=digits", "model=small_cnn", d) for n, d in STD_AND_ADV.items()}
    batch = trained["std"].first(256)
    for norm, steps in (("linf", 1), ("linf", 40), ("l2", 40)):
        yield from full_batch(trained["std"], "small_cnn", norm, steps, batch, 1.10, rounds, device)
    resnet = subject(store, device, *RESNET)
    yield from full_batch(resnet, "ResNet-18 3x32x32", "linf", 10, resnet.first(16), 1.05, max(5, rounds // 2), device)
    for name, target in (("std", 0.5), ("adv", 0.85)):
        for norm in THREATS:
            batch = trained[name].first(256, correct=True)
            yield from asked_for_success(trained[name], name, norm, batch, target, rounds, device)
        for norm in THREATS:
            batch = trained[name].first(128, correct=True)
            yield from deepfool(trained[name], name, norm, batch, rounds, device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("results"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = f"""# Speed of the attacks

Time of ours divided by that of what it is compared with: medians of {options.rounds} runs (ResNet-18: at least 5) that
take turns in one process, every library on the same model and inputs; CPU time for one thread, wall time otherwise.
"Bare passes": the model's own forward and backward passes to the input, at the same count and batch size. Where ours
stops at success, "passes" is the share of the peer's passes that it made: what the ratio would be without overhead.
"""
    good = True
    for threads in options.threads:
        torch.set_num_threads(threads)
        found = []
        for line in lines(options.store, options.rounds, options.device):
            print(*line.cells(), sep=" | ", flush=True)
            found.append(line)
        good &= all(line.good for line in found)
        text += f"\n## {machine(options.device)}\n\n{table(HEAD, [line.cells() for line in found])}\n"
    write(options.out, text)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
