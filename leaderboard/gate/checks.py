"""Checks of a gate: requirements on every system of a store, tested on its cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import RecordError
from benchmark.records import naming
from benchmark.records.described import AttackInfo
from benchmark.records.record import Record

from ..cells.cell import Cell
from ..cells.evidence import Bools, labels_of, read_evidence
from ..ranking.worst_case import AttackedSystem, Trial, worst_case_at
from .decide import Decision, decide_loss, decide_share

__all__ = ["Check", "Goals", "Tested", "Verdict", "judge", "tested_systems"]

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Goals:
    """Shares of examples that a system must reach, each in [0, 1].

    robust: correct under every attack of the store; None for no goal. clean: correct without an attack. attacks:
    correct
    under the attack of that name alone. classes: correct under every attack, among the examples of that label; the key
    -1
    stands for each label without its own goal. loss: tolerated decrease of the robust share below a baseline's.
    """

    robust: float | None = None
    clean: float | None = None
    attacks: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[int, float] = field(default_factory=dict)
    loss: float = 0.05


@dataclass(frozen=True, eq=False)
class Tested:
    """A trained system under one threat, with all its cells.

    labels: (N,) int64. clean, held: (N,) bool, correct without an attack, and under every attack. by: (N,) bool for
    each attack that was run at this radius, and for each variant with a goal, such as pgd_10. cells: of this radius;
    behind: those of each entry of `by`. errors: a sentence per finding that invalidates a cell. system: display name,
    distinct from those of other systems of the store.
    """

    cells: tuple[Cell, ...]
    labels: Labels
    clean: Bools
    held: Bools
    by: Mapping[str, Bools]
    behind: Mapping[str, tuple[Cell, ...]]
    errors: tuple[str, ...]
    system: str

    @property
    def record(self) -> Record:
        """Any of its records."""
        return self.cells[0].record

    @property
    def name(self) -> str:
        """Display name: the system, the seed and the threat."""
        record = self.record
        goal = "" if record.threat.goal == "untargeted" else f" {record.threat.goal}"
        region = "" if record.threat.region == "full" else f" {record.threat.region}"
        radius = f"{record.threat.norm} {record.threat.eps_exact}{goal}{region}"
        return f"{self.system} seed {record.seed}, {radius}"

    @property
    def question(self) -> tuple[object, ...]:
        """Properties that a baseline must share: parts of the system by name, seed, threat, examples."""
        record = self.record
        return (record.system.dataset, record.seed, _threat(record), record.threat.eps_exact, record.examples_sha256)


@dataclass(frozen=True)
class Check:
    """One goal and its decision. name: of the goal. of: the system and threat. places: the records behind it."""

    name: str
    of: str
    goal: float
    right: int
    total: int
    decision: Decision
    places: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Decision with its numbers, in one line."""
        found = self.decision
        bounds = f"({100 * found.low:.1f} to {100 * found.high:.1f})"
        if self.name == "loss":
            lost = f"{100 * found.value:.1f} points {bounds} below the baseline's"
            asked = f"{self.of}: robust accuracy is {lost}; tolerated {100 * self.goal:.1f}"
        else:
            share = f"{self.name} {self.right} of {self.total}, {100 * found.value:.1f} % {bounds}"
            asked = f"{self.of}: {share}; required {100 * self.goal:.1f} %"
        if found.outcome == "undecided":
            asked += "; undecided with this many examples, "
            asked += f"about {found.needed} are needed" if found.needed else "and no number of examples would decide it"
        return asked


@dataclass(frozen=True)
class Verdict:
    """All checks. problems: sentences that rule out a decision: failed cells, findings, attacks that did not run."""

    checks: tuple[Check, ...]
    problems: tuple[str, ...]
    systems: tuple[Tested, ...]

    @property
    def outcome(self) -> str:
        """`fail` if a check fails or there is a problem, else `undecided` if a check is, else `pass`."""
        outcomes = {check.decision.outcome for check in self.checks}
        if self.problems or "fail" in outcomes or not outcomes:
            return "fail"
        return "undecided" if "undecided" in outcomes else "pass"

    @property
    def reason(self) -> str:
        """Reason, as the one line for a build log."""
        told = [*self.problems, *(c.sentence for c in self.checks if c.decision.outcome == "fail")]
        if not told:
            told = [c.sentence for c in self.checks if c.decision.outcome == self.outcome]
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        return f"gate: {self.outcome}: {told[0] if told else 'there is no complete cell to judge'}{more}"


def tested_systems(cells: Sequence[Cell], variants: Mapping[str, AttackInfo]) -> list[Tested]:
    """Group complete cells by trained system and threat, and join their outcomes example by example.

    A candidate counts at every radius that contains it, as on a leaderboard. Cells of oblivious and transfer attackers
    count as well.

    Args:
        variants: attacks in certain settings, by the names of their goals.

    Raises:
        RecordError: if outcomes are missing or contradict their record.
    """
    grouped: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        record = cell.record
        if record.status == "complete":
            same = (record.system.key, _threat(record), record.examples_sha256, record.dataset_revision)
            grouped[same].append(cell)
    found = [one for group in grouped.values() for one in _by_radius(group, variants)]
    systems = [tested.record.system for tested in found]
    names = naming.apart([system.name for system in systems], [system.config for system in systems])
    found = [replace(tested, system=name) for tested, name in zip(found, names, strict=True)]
    return sorted(found, key=lambda t: (naming.natural(t.name), t.record.system.key))


def _threat(record: Record) -> tuple[object, ...]:
    threat = record.threat
    return threat.norm, threat.goal, threat.region, threat.targeted, threat.levels


def _names(attack: AttackInfo, variants: Mapping[str, AttackInfo]) -> list[str]:
    """Name of an attack, and those of the variants that it is, whatever their versions."""
    mine = attack.name, naming.unversioned(attack.params)
    return [attack.name, *(name for name, of in variants.items() if mine == (of.name, naming.unversioned(of.params)))]


def _by_radius(group: Sequence[Cell], variants: Mapping[str, AttackInfo]) -> Iterator[Tested]:
    trials = [
        Trial.of(cell.record.attack.name, Fraction(cell.record.threat.eps_exact), cell, read_evidence(cell))
        for cell in group
    ]
    system = AttackedSystem.of(group[0].record.system.key, trials)
    labels = labels_of(group[0])
    for eps in sorted({trial.eps for trial in trials}):
        worst = worst_case_at(system, eps, group[0].record.threat.norm)
        assert worst is not None
        own = [trial for trial in trials if trial.eps == eps]
        by: dict[str, Bools] = {}
        behind: dict[str, tuple[Cell, ...]] = {}
        for trial in own:
            stands = trial.evidence.clean & trial.evidence.valid & ~trial.evidence.broken
            for name in _names(trial.cell.record.attack, variants):
                by[name] = by[name] & stands if name in by else stands
                behind[name] = (*behind.get(name, ()), trial.cell)
        errors = [
            f"{trial.cell.record.name}: {finding.name}: {finding.evidence}"
            for trial in own
            for finding in trial.cell.record.findings
            if finding.severity == "error"
        ]
        cells = tuple(trial.cell for trial in own)
        name = group[0].record.system.name
        yield Tested(cells, labels, system.clean, worst.held, by, behind, tuple(errors), name)


def judge(
    systems: Sequence[Tested],
    goals: Goals,
    *,
    problems: Sequence[str] = (),
    baseline: Sequence[Tested] = (),
    replayed: Mapping[str, Bools] | None = None,
) -> Verdict:
    """Decide every goal for every system.

    Args:
        problems: sentences about cells without a result and about unreadable records. baseline: the systems of an
        earlier version, compared on the same examples. replayed: (N,) bool by the name of a system: examples
        broken by a stored witness of an earlier version.

    Raises:
        RecordError: if a baseline is given, but no system has a counterpart in it.
    """
    fooled = replayed or {}
    seen = {tested.name: tested.held & ~fooled[tested.name] for tested in systems if tested.name in fooled}
    asked = [one for tested in systems for one in _asked(tested, seen.get(tested.name, tested.held), goals)]
    losses = _losses(systems, seen, baseline)
    count = len(asked) + len(losses)
    checks = [
        Check(name, of.name, goal, right, total, decide_share(right, total, goal, checks=count), _places(of, name))
        for of, name, goal, right, total in asked
    ]
    for of, table in losses:
        made = decide_loss(table, goals.loss, checks=count)
        checks.append(Check("loss", of.name, goals.loss, table[0] + table[2], sum(table), made, _places(of, "robust")))
    told = [*problems, *(error for tested in systems for error in tested.errors), *_absent(systems, goals, fooled)]
    return Verdict(tuple(checks), tuple(told), tuple(systems))


def _asked(tested: Tested, held: Bools, goals: Goals) -> Iterator[tuple[Tested, str, float, int, int]]:
    """Each goal of a system: its name, the required share, and how many of how many examples reach it."""
    if goals.robust is not None:
        yield tested, "robust", goals.robust, int(held.sum()), len(held)
    if goals.clean is not None:
        yield tested, "clean", goals.clean, int(tested.clean.sum()), len(held)
    for attack, goal in goals.attacks.items():
        if attack in tested.by:
            yield tested, attack, goal, int(tested.by[attack].sum()), len(held)
    if goals.classes:
        for label in np.unique(tested.labels).tolist():
            goal_of = goals.classes.get(label, goals.classes.get(-1))
            if goal_of is not None:
                mine = tested.labels == label
                yield tested, f"class {label}", goal_of, int(held[mine].sum()), int(mine.sum())


def _losses(
    systems: Sequence[Tested], seen: Mapping[str, Bools], baseline: Sequence[Tested]
) -> list[tuple[Tested, tuple[int, int, int, int]]]:
    """Four counts of each system and its baseline."""
    if not baseline:
        return []
    earlier: dict[tuple[object, ...], list[Tested]] = defaultdict(list)
    for tested in baseline:
        earlier[tested.question].append(tested)
    found = []
    for tested in systems:
        candidates = earlier.get(tested.question, [])
        same = [one for one in candidates if one.record.system.name == tested.record.system.name] or candidates
        if len(same) == 1:
            before, now = same[0].held, seen.get(tested.name, tested.held)
            counts = (before & now, before & ~now, ~before & now, ~before & ~now)
            found.append((tested, tuple(int(c.sum()) for c in counts)))
    if not found:
        raise RecordError(
            "the baseline has no single system with the data, examples, seed and threat of any system here; compare "
            "runs of one suite, with one system of each question in the baseline"
        )
    return found  # type: ignore[return-value]


def _absent(systems: Sequence[Tested], goals: Goals, replayed: Mapping[str, Bools]) -> Iterator[str]:
    """Errors about attacks with a goal that were never run, and about systems without attacks."""
    for tested in systems:
        for attack in goals.attacks:
            if attack not in tested.by:
                yield f"{tested.name}: no complete cell of attack={attack}, which has a goal; run this attack first"
        tried = set(tested.by) - {"none"}
        if (goals.robust is not None or goals.classes) and not tried and tested.name not in replayed:
            yield f"{tested.name}: no attack was run on it; run attacks before the gate, such as attack=pgd,square"


def _places(tested: Tested, name: str) -> tuple[str, ...]:
    """Records behind a check."""
    return tuple(sorted(cell.place for cell in tested.behind.get(name, tested.cells)))
