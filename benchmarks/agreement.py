"""Do we and the peers find the same? FGSM and PGD on trained models, same inputs, parameters and judge.

python -m benchmarks.agreement [--out FILE] [--device cuda] ends with 1 if ours is further than one percentage point
from Foolbox or torchattacks, or, where nothing is random, weaker than either by more than one example.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import torch
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.pgd import PGD
from torch import Tensor

from benchmark.api import Attack
from benchmark.stages.judge import judge
from benchmark.threat import Norm, Threat
from benchmarks.peers import Attacker, Budget, offers
from benchmarks.subjects import STD_AND_ADV, Subject, subject
from benchmarks.timing import machine, table, write

RADII = {"linf": Fraction(1, 10), "l2": Fraction(1, 2)}
STEPS = 40
POINT = 0.01
SEEDS = 3
"""Over how many random starts a row is averaged."""
HEAD = ("system", "attack", "ours", "all steps", "foolbox", "torchattacks", "art", "cleverhans", "outside", "verdict")


def trusted(attack: str, norm: str, random_start: bool) -> tuple[str, ...]:
    """The peers that run the same algorithm.

    torchattacks draws the radius of an l2 start uniformly, so it starts nearer to the input than a uniform point of the
    ball does: not the same attack.
    """
    return ("foolbox",) if (attack, norm, random_start) == ("pgd", "l2", True) else ("foolbox", "torchattacks")


def ours(subject: Subject, attack: Attack, threat: Threat) -> Attacker:
    """One of our attacks as a peer would be called; its randomness follows the global seed, as theirs does."""

    def run(x: Tensor, y: Tensor) -> Tensor:
        rng = subject.batch.rng.child(torch.initial_seed())
        return attack.perturb(subject.target(subject.batch), x, y, threat=threat, rng=rng)

    return run


def robust(subject: Subject, attacker: Attacker, threat: Threat, seeds: int) -> tuple[float, int]:
    """The share of examples that stay right, by the harness's own verdict, and how many candidates left the threat."""
    batch = subject.batch
    right = subject.system.logits(batch.x, batch.rng).argmax(1) == batch.y
    share, outside = 0.0, 0
    for seed in range(seeds):
        torch.manual_seed(seed)  # the peers draw their random starts from the global generator
        candidates = attacker(batch.x.clone(), batch.y.clone()).detach()
        ball = threat.around(batch.x, batch.rng)
        verdict = judge(subject.system, ball, candidates, batch.y, None, batch.rng, minimal=False, bounded=True)
        share += float((right & ~verdict.broken).double().mean()) / seeds
        outside += int((~verdict.valid).sum())
    return share, outside


def compare(name: str, subject: Subject, attack: str, norm: str, random_start: bool) -> tuple[list[str], bool]:
    """A row of the table, and whether it is as it should be."""
    eps = RADII[norm]
    threat = Threat(norm=Norm(norm), eps=eps)
    step = 2.5 * float(eps) / STEPS
    budget = Budget(norm, float(eps), STEPS, step, random_start)
    if attack == "fgsm":
        mine: dict[str, Attack] = {"ours": FGSM()}
    else:
        settings = {"steps": STEPS, "step_size": step, "random_start": random_start}
        mine = {"ours": PGD(**settings), "all steps": PGD(**settings, stop_on_success=False)}
    attackers = {label: ours(subject, plugin, threat) for label, plugin in mine.items()}
    attackers |= {library: build(subject.system, budget) for library, build in offers(attack, norm).items()}
    seeds = SEEDS if random_start else 1
    found = {label: robust(subject, attacker, threat, seeds) for label, attacker in attackers.items()}
    peers = [found[library][0] for library in trusted(attack, norm, random_start)]
    slack = POINT if random_start else 1 / len(subject.batch.y) + 1e-9  # random starts differ by a few examples
    mine_value, left = found["ours"]
    good = left == 0 and all(abs(mine_value - peer) <= POINT and mine_value <= peer + slack for peer in peers)
    outside = ", ".join(f"{label} {count}" for label, (_, count) in found.items() if count) or "-"
    values = [f"{found[label][0]:.1%}" if label in found else "-" for label in HEAD[2:8]]
    start = " random start" if random_start else ""
    title = f"{attack.upper()}{f'-{STEPS}' if attack == 'pgd' else ''} {norm} {float(eps)}{start}"
    return [name, title, *values, outside, "agrees" if good else "DIFFERS"], good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("results"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows, good = [], True
    for name, defense in STD_AND_ADV.items():
        trained = subject(options.store, options.device, "dataset=digits", "model=small_cnn", defense)
        for attack, norm, random_start in (
            ("fgsm", "linf", False),
            ("fgsm", "l2", False),
            ("pgd", "linf", False),
            ("pgd", "linf", True),
            ("pgd", "l2", False),
            ("pgd", "l2", True),
        ):
            row, fine = compare(name, trained, attack, norm, random_start)
            rows.append(row)
            good &= fine
    write(
        options.out,
        f"""# Agreement with the peers

Robust accuracy of `small_cnn` on the 500 test digits, undefended (std) and adversarially trained (adv): same weights,
same inputs, same parameters (step 2.5 eps / {STEPS}), and every candidate judged by the harness. "all steps": ours with
`stop_on_success=false`. "outside": candidates that left ball or box, which never count as broken. Rows with a random
start are means over {SEEDS} seeds. A row agrees if ours is within one percentage point of Foolbox and of torchattacks
and, without a random start, not weaker than either by more than one example. The l2 start of torchattacks is not
uniform in the ball, so there Foolbox decides.

{table(HEAD, rows)}

{machine(options.device)}""",
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
