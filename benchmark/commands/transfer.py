"""`benchmark transfer`: measure how well adversarial examples made on one system transfer to the others.

No attack is run: every other system that was attacked under the same threat classifies the witnesses of finished
cells, one forward pass each. Each record is first checked like by `benchmark verify`; disproved ones are left out.
Such matrices of sources and targets are those of Papernot, McDaniel & Goodfellow (2016, arXiv:1605.07277). Here an
example is tried if a witness breaks the source and the target classifies the clean input correctly; it transferred if
the target misclassifies any of those witnesses or, under a target label, gives the label reached on the source.
Cells of transfer attacks are not sources: their examples were not made on the system that they break.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import BenchmarkError, RecordError
from benchmark.records.arrivals import FOLDER, Arrivals, Pair, read_arrivals
from benchmark.records.document import content_key, to_text
from benchmark.records.durable import write_atomic
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.stages.proof import prove
from benchmark.stages.replay import BATCH, checked_outcomes, rebuilt, rows_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from benchmark.records.outcomes import Outcomes
    from benchmark.system import System

__all__ = ["broken_by", "main", "measure_transfer"]


MATRIX_SYSTEMS = 12
"""Largest number of systems for which the command prints a matrix."""


def main(root: Path, data: Path) -> int:
    """Measure missing pairs, and print a matrix per threat; returns the exit code 0."""
    store = Store(root)
    records = [r for r in store.records() if r.status == "complete"]
    if not records:
        raise RecordError(f"{root}/cells has no complete record; give the folder of a store")
    groups = _groups(records)
    if not groups:
        sys.stdout.write(
            "no two systems were attacked under the same threat on the same examples: no pair to measure\n"
        )
    for systems in groups:
        found, passes, problems = measure_transfer(systems, store, data)
        _show(systems, found, passes, problems)
    if groups:
        sys.stdout.write("benchmark leaderboard build shows them as heat maps\n")
    return 0


def conditions(record: Record) -> tuple[object, ...]:
    """Properties that records must share to exchange witnesses: the threat, without access and budget."""
    threat = record.threat.model_dump(exclude={"eps", "access", "queries", "eot", "surrogate"})
    return (record.suite, record.official, record.dataset_revision, record.examples_sha256, *sorted(threat.items()))


Systems = Mapping[str, Sequence[Record]]
"""The records of each system, by its key: all under one threat, each by its own key."""


def _groups(records: Sequence[Record]) -> list[Systems]:
    """Records by threat and system, without threats of a single system and threats with an unrecorded mask."""
    grouped: dict[tuple[object, ...], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda r: r.key):
        if not record.threat.region.startswith("file") or record.harness:  # records of 0.1 do not hold their masks
            grouped[conditions(record)][record.system.key].append(record)
    made = [dict(sorted(systems.items())) for systems in grouped.values() if len(systems) > 1]
    return sorted(made, key=_order)


def _order(systems: Systems) -> tuple[object, ...]:
    first = next(iter(systems.values()))[0]
    return first.suite or "", first.system.dataset, first.threat.norm, first.threat.eps, str(conditions(first))


def sources(records: Sequence[Record]) -> list[Record]:
    """Cells of a system whose adversarial examples were made on it."""
    return [record for record in records if record.threat.access != "transfer"]


def measure_transfer(systems: Systems, store: Store, data: Path) -> tuple[list[Arrivals], int, list[str]]:
    """Measure the transfer between all systems under one threat; stored pairs are not measured again.

    Returns:
        The arrivals at each system, the number of forward passes, and a sentence per pair that cannot be measured.
    """
    found = []
    problems: dict[str, None] = {}
    asked = 0
    proofs = _Proofs(store, data)
    for target, records in systems.items():
        key = content_key([*map(str, conditions(records[0])), target])
        path = store.root / FOLDER / f"{key}.json"
        known = read_arrivals(path)
        judge = _Judge(records[0], store, data)
        pairs = []
        for source, theirs in systems.items():
            cells = sources(theirs)
            if source == target or not cells:
                continue
            try:
                pair = _known(known, source, cells, records[0])
                if pair is None:
                    for record in (records[0], *cells):
                        proofs.check(record)
                    pair = judge.pair(source, cells)
                pairs.append(pair)
            except BenchmarkError as error:
                problems[str(error)] = None
        now = Arrivals(
            key=key,
            target=target,
            weights_sha256=records[0].weights_sha256,
            examples_sha256=records[0].examples_sha256,
            pairs=pairs,
        )
        if now != known:
            write_atomic(path, to_text(now))
        asked += judge.asked
        found.append(now)
    return found, asked, list(problems)


def _known(before: Arrivals | None, source: str, cells: Sequence[Record], target: Record) -> Pair | None:
    """Stored measurement of the pair, if it was made from exactly these cells and that target, else None."""
    if before is None or before.weights_sha256 != target.weights_sha256:
        return None
    now = ([cell.key for cell in cells], _witnesses_sha256(cells))
    return next(
        (p for p in before.pairs if p.source == source and (sorted(p.cells), p.witnesses_sha256) == now),
        None,
    )


def _witnesses_sha256(cells: Sequence[Record]) -> str:
    from benchmark.records.outcomes import WITNESS

    named = [next((file.sha256 for file in cell.files if file.path == WITNESS), "") for cell in cells]
    return hashlib.sha256(" ".join(named).encode()).hexdigest()


class _Proofs:
    """Cached proofs of the records whose witnesses and clean answers are used."""

    def __init__(self, store: Store, data: Path) -> None:
        self.store, self.data = store, data
        self.errors: dict[str, RecordError | None] = {}

    def check(self, record: Record) -> None:
        """Prove a record as far as its parts are here, like `benchmark verify`.

        Raises:
            RecordError: if it is disproved.
        """
        if record.key not in self.errors:
            self.errors[record.key] = None
            try:
                prove(self.store.cell(record.key), record, self.store, self.data)
            except RecordError as error:
                self.errors[record.key] = RecordError(f"cell {record.key} is disproved: {error}")
            except BenchmarkError:
                pass  # for want of a part: whoever needs that part says so
        disproved = self.errors[record.key]
        if disproved is not None:
            raise disproved


class _Judge:
    """A target system, loaded when first needed. asked: forward passes so far."""

    def __init__(self, record: Record, store: Store, data: Path) -> None:
        self.record, self.store, self.data = record, store, data
        self.asked = 0

    @functools.cached_property
    def system(self) -> System:
        return rebuilt(self.record, self.store, self.data, self.store.cell(self.record.key)).system

    @functools.cached_property
    def correct(self) -> torch.Tensor:
        """Clean examples that are classified correctly, (N,) bool."""
        return checked_outcomes(self.store.cell(self.record.key), self.record).clean_correct

    def pair(self, source: str, cells: Sequence[Record]) -> Pair:
        """Try the witnesses of one source's cells on this target."""
        import torch

        tried = torch.zeros(len(self.correct), dtype=torch.bool)
        transferred = tried.clone()
        counts = {}
        for cell in cells:
            broken, fooled = self.witnesses(self.store.cell(cell.key), cell)
            counts[cell.key] = (int(broken.sum()), int(fooled.sum()))
            tried |= broken
            transferred |= fooled
        return Pair(
            source=source,
            cells=counts,
            witnesses_sha256=_witnesses_sha256(cells),
            tried=int(tried.sum()),
            transferred=int(transferred.sum()),
        )

    def witnesses(self, folder: Path, record: Record) -> tuple[torch.Tensor, torch.Tensor]:
        """Examples broken by the cell in `folder` and correct on the target, and those fooling it, (N,) bool."""
        import torch

        from benchmark.records.witness import WITNESS, Witness

        outcomes = checked_outcomes(folder, record)
        tried = outcomes.broken & self.correct
        fooled = torch.zeros_like(tried)
        rows = rows_of(Witness.load(folder / WITNESS).ids, outcomes)
        for start in range(0, len(rows), BATCH):
            at = rows[start : start + BATCH]
            kept = tried[at]
            if bool(kept.any()):
                x_adv = Witness.load(folder / WITNESS, start, start + len(at)).x_adv[kept]
                fooled[at[kept]] = self._fooled(x_adv, outcomes, at[kept], record.threat.goal)
        return tried, fooled

    def _fooled(self, x_adv: torch.Tensor, outcomes: Outcomes, at: torch.Tensor, goal: str) -> torch.Tensor:
        """Examples that fool the target in the draws of its own verdicts, (M,) bool."""
        from benchmark.sampling import SampleRandom, derive_seed
        from benchmark.stages.devices import exact_math
        from benchmark.stages.judge import answer, right, verdict_random
        from benchmark.system import REJECTED
        from benchmark.threat import Goal

        rng = verdict_random(self.system, SampleRandom(derive_seed(self.record.seed, "cell"), outcomes.ids[at]))
        with exact_math():
            said = answer(self.system, x_adv, outcomes.y[at], rng)
        self.asked += len(at) * self.system.votes
        if Goal(goal) in (Goal.untargeted, Goal.top5):
            return ~right(said, Goal(goal)) & (said.label != REJECTED)
        return said.label == outcomes.adv_label[at]


def broken_by(
    target: Record, store: Store, data: Path, cells: Sequence[Record], theirs: Store
) -> NDArray[np.bool_] | None:
    """Replay the witnesses of other cells on the system of a record, one forward pass each.

    Args:
        target: a record of the system, in `store`. cells: of any system, in `theirs`; those under another threat, a
            larger radius or on other examples are skipped.

    Returns:
        (N,) bool: the examples that the system gets right and a witness breaks; None if no cell has suitable witnesses.

    Raises:
        BenchmarkError: if the system or the data are not here, or the record of a witness is disproved.
    """
    fitting = [cell for cell in cells if _within(cell, target)]
    if not fitting:
        return None
    judge = _Judge(target, store, data)
    found = ~judge.correct & judge.correct  # none
    for cell in fitting:
        found |= judge.witnesses(theirs.cell(cell.key), cell)[1]
    return found.numpy()


def _within(cell: Record, target: Record) -> bool:
    """True if every success under the cell's threat is allowed under the target's, on the same examples."""

    def same(record: Record) -> tuple[object, ...]:
        threat = record.threat
        attacker = (threat.norm, threat.goal, threat.region, threat.targeted, threat.levels)
        return (record.dataset_revision, record.examples_sha256, *attacker)

    smaller = Fraction(cell.threat.eps_exact) <= Fraction(target.threat.eps_exact)
    return same(cell) == same(target) and smaller and cell.attack.bounded and cell.attack.name != "none"


# --- what is printed ---


def _show(systems: Systems, found: Sequence[Arrivals], passes: int, problems: Sequence[str]) -> None:
    first = next(iter(systems.values()))[0]
    threat, counts = first.threat, first.counts
    assert counts is not None
    where = f"{first.suite}, " if first.suite else ""
    sys.stdout.write(
        f"{where}{first.system.dataset}, {threat.norm} {threat.eps_exact}, {threat.goal}, {counts.total} examples: "
        f"{sum(len(one.pairs) for one in found)} pairs of {len(systems)} systems, {passes} new passes\n"
    )
    for problem in problems:
        sys.stdout.write(f"  skipped: {problem}\n")
    if len(systems) <= MATRIX_SYSTEMS:
        for line in _matrix(systems, found):
            sys.stdout.write(f"  {line}\n")


def _matrix(systems: Systems, found: Sequence[Arrivals]) -> Iterator[str]:
    """Lines of the matrix: rows are sources, columns targets, entries transferred/tried."""
    pairs = {(pair.source, one.target): f"{pair.transferred}/{pair.tried}" for one in found for pair in one.pairs}
    names = [f"{at}  {_name(records[0])}" for at, records in enumerate(systems.values(), start=1)]
    width = max(map(len, names))
    yield " " * width + "".join(f"{at:>10}" for at in range(1, len(names) + 1))
    for name, source in zip(names, systems, strict=True):
        cells = ["itself" if source == target else pairs.get((source, target), "-") for target in systems]
        yield name.ljust(width) + "".join(f"{cell:>10}" for cell in cells)


def _name(record: Record) -> str:
    system = record.system
    return "+".join([system.model, *system.defenses, *system.poison]) + f" seed {record.seed}"
