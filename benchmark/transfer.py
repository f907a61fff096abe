"""`benchmark transfer STORE`: do the adversarial examples made on one system fool the others?

No attack is run: every other system that was attacked under the same threat is asked about the witnesses of finished
cells, one forward pass each. Such matrices of sources and targets are those of Papernot, McDaniel & Goodfellow (2016,
arXiv:1605.07277). Here an example is tried if a witness breaks the source and the target gets the clean input right; it
transferred if the target gets any of those witnesses wrong or, under a target label, gives the label that the witness
reached on its source. Cells of transfer attacks are no sources: their examples were not made on the system they break.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmark.errors import BenchmarkError, RecordError
from benchmark.record import Record, content_key, to_text, write_atomic
from benchmark.store import Store
from benchmark.verify_records import BATCH, checked_outcomes, rebuilt, rows_of

if TYPE_CHECKING:
    import torch

    from benchmark.outcomes import Outcomes
    from benchmark.system import System

__all__ = ["FOLDER", "Pair", "conditions", "main", "measure"]

FOLDER = "transfer"
"""Where a store keeps what was measured, beside its cells."""

SHOWN = 12
"""Up to how many systems the command prints a matrix of."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Share(_Model):
    """What the witnesses of one cell did. tried: examples that they break, and that the target gets right."""

    cell: str
    witness_sha256: str
    tried: int = Field(ge=0)
    transferred: int = Field(ge=0)


class Pair(_Model):
    """How adversarial examples go from one system to another under one threat.

    key: the address of threat, source and target. source, target: keys of systems. weights_sha256: of the target.
    cells: those of the source, by key. tried, transferred: how many examples were so by any of the cells.
    """

    schema_version: Literal[1] = 1
    key: str
    source: str
    target: str
    examples_sha256: str
    weights_sha256: str
    tried: int = Field(ge=0)
    transferred: int = Field(ge=0)
    cells: list[Share]


def main(root: Path, data: Path) -> int:
    """Measure what is not yet measured, and print a matrix per threat; 0 for the shell."""
    store = Store(root)
    records = [r for r in store.records() if r.status == "complete"]
    if not records:
        raise RecordError(f"{root}/cells has no complete record; give the folder of a store")
    groups = _groups(records)
    if not groups:
        sys.stdout.write("no two systems were attacked under one threat on the same examples: nothing to try\n")
    for systems in groups:
        found, passes, problems = measure(systems, store, data)
        _show(systems, found, passes, problems)
    return 0


def conditions(record: Record) -> tuple[object, ...]:
    """What records must share for their witnesses to be exchanged: the threat, but for how the attacker gets there."""
    threat = record.threat.model_dump(exclude={"eps", "access", "queries", "eot", "surrogate"})
    return (record.suite, record.official, record.dataset_revision, record.examples_sha256, *sorted(threat.items()))


Systems = Mapping[str, Sequence[Record]]
"""The records of each system, by its key: all under one threat, each by its own key."""


def _groups(records: Sequence[Record]) -> list[Systems]:
    """Records by threat and system; threats with one system only, or with a mask that no record holds, are left out."""
    grouped: dict[tuple[object, ...], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda r: r.key):
        if not record.threat.region.startswith("file"):
            grouped[conditions(record)][record.system.key].append(record)
    made = [dict(sorted(systems.items())) for systems in grouped.values() if len(systems) > 1]
    return sorted(made, key=lambda systems: str(conditions(next(iter(systems.values()))[0])))


def sources(records: Sequence[Record]) -> list[Record]:
    """The cells of a system whose adversarial examples were made on it."""
    return [record for record in records if record.threat.access != "transfer"]


def measure(systems: Systems, store: Store, data: Path) -> tuple[dict[tuple[str, str], Pair], int, list[str]]:
    """Every ordered pair of the systems of one threat, from the store or measured now.

    Returns:
        The pairs by (source, target), how many forward passes were made, and a sentence for each that cannot be.
    """
    found: dict[tuple[str, str], Pair] = {}
    problems: dict[str, None] = {}
    asked = 0
    for target, records in systems.items():
        judge: _Judge | None = None
        for source, theirs in systems.items():
            cells = sources(theirs)
            if source == target or not cells:
                continue
            key = content_key([*map(str, conditions(cells[0])), source, target])
            path = store.root / FOLDER / f"{key}.json"
            known = read_pair(path)
            if known is None or not _current(known, cells, records[0]):
                try:
                    judge = judge or _Judge.of(records[0], store, data)
                    known = judge.pair(key, source, cells, store)
                except BenchmarkError as error:
                    problems[str(error)] = None
                    continue
                write_atomic(path, to_text(known))
                asked += judge.asked
                judge.asked = 0
            found[source, target] = known
    return found, asked, list(problems)


def read_pair(path: Path) -> Pair | None:
    """A pair that was measured, or None if there is none that can be read."""
    try:
        pair = Pair.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return pair if pair.transferred <= pair.tried and pair.key == path.stem else None


def _current(known: Pair, cells: Sequence[Record], target: Record) -> bool:
    """Whether a pair was measured from just these cells and that target."""
    made_from = [(share.cell, share.witness_sha256) for share in known.cells]
    now = [(cell.key, _witness_sha256(cell)) for cell in cells]
    return made_from == now and known.weights_sha256 == target.weights_sha256


def _witness_sha256(record: Record) -> str:
    from benchmark.outcomes import WITNESS

    return next((file.sha256 for file in record.files if file.path == WITNESS), "")


@dataclass
class _Judge:
    """A target, and which clean examples it gets right. asked: forward passes so far."""

    record: Record
    system: System
    correct: torch.Tensor
    seed: int
    asked: int = 0

    @classmethod
    def of(cls, record: Record, store: Store, data: Path) -> _Judge:
        config, system, _ = rebuilt(record, store, data)
        correct = checked_outcomes(store.cell(record.key), record).clean_correct
        return cls(record, system, correct, config.seed)

    def pair(self, key: str, source: str, cells: Sequence[Record], store: Store) -> Pair:
        """What the witnesses of the cells of one source do here."""
        import torch

        tried = torch.zeros(len(self.correct), dtype=torch.bool)
        transferred = tried.clone()
        shares = []
        for cell in cells:
            broken, fooled = self._cell(cell, store.cell(cell.key))
            counted = {"tried": int(broken.sum()), "transferred": int(fooled.sum())}
            shares.append(Share(cell=cell.key, witness_sha256=_witness_sha256(cell), **counted))
            tried |= broken
            transferred |= fooled
        return Pair(
            key=key,
            source=source,
            target=self.record.system.key,
            examples_sha256=self.record.examples_sha256,
            weights_sha256=self.record.weights_sha256,
            tried=int(tried.sum()),
            transferred=int(transferred.sum()),
            cells=shares,
        )

    def _cell(self, record: Record, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,) bool each: what the cell breaks and the target gets right, and what of it fools the target."""
        import torch

        from benchmark.outcomes import WITNESS, Witness

        outcomes = checked_outcomes(folder, record)
        tried = outcomes.broken & self.correct
        fooled = torch.zeros_like(tried)
        rows = rows_of(Witness.load(folder / WITNESS).ids, outcomes)
        for start in range(0, len(rows), BATCH):
            at = rows[start : start + BATCH]
            kept = tried[at]
            if bool(kept.any()):
                x_adv = Witness.load(folder / WITNESS, start, start + len(at)).x_adv[kept]
                fooled[at[kept]] = self._fooled(x_adv, outcomes, at[kept], targeted=record.threat.targeted)
        return tried, fooled

    def _fooled(self, x_adv: torch.Tensor, outcomes: Outcomes, at: torch.Tensor, *, targeted: bool) -> torch.Tensor:
        """(M,) bool: by one forward pass, as in the target's own verdicts."""
        from benchmark.devices import exact_math
        from benchmark.sampling import SampleRandom, derive_seed
        from benchmark.system import REJECTED
        from benchmark.verify import answer

        rng = SampleRandom(derive_seed(self.seed, "cell"), outcomes.ids[at]).child("verdict")
        with exact_math():
            label = answer(self.system, x_adv, outcomes.y[at], rng).label
        self.asked += len(at)
        return label == outcomes.adv_label[at] if targeted else (label != outcomes.y[at]) & (label != REJECTED)


# --- what is printed ---


def _show(systems: Systems, found: Mapping[tuple[str, str], Pair], passes: int, problems: Sequence[str]) -> None:
    first = next(iter(systems.values()))[0]
    threat, counts = first.threat, first.counts
    assert counts is not None
    where = f"{first.suite}, " if first.suite else ""
    sys.stdout.write(
        f"{where}{first.system.dataset}, {threat.norm} {threat.eps_exact}, {threat.goal}, {counts.total} examples: "
        f"{len(found)} pairs of {len(systems)} systems, {passes} new passes\n"
    )
    for problem in problems:
        sys.stdout.write(f"  skipped: {problem}\n")
    if len(systems) <= SHOWN:
        for line in _matrix(systems, found):
            sys.stdout.write(f"  {line}\n")


def _matrix(systems: Systems, found: Mapping[tuple[str, str], Pair]) -> Iterator[str]:
    """Rows are sources, columns targets: transferred/tried."""
    names = [f"{at}  {_name(records[0])}" for at, records in enumerate(systems.values(), start=1)]
    width = max(map(len, names))
    yield " " * width + "".join(f"{at:>10}" for at in range(1, len(names) + 1))
    for name, source in zip(names, systems, strict=True):
        cells = []
        for target in systems:
            pair: Any = found.get((source, target))
            cells.append("itself" if source == target else f"{pair.transferred}/{pair.tried}" if pair else "-")
        yield name.ljust(width) + "".join(f"{cell:>10}" for cell in cells)


def _name(record: Record) -> str:
    system = record.system
    return "+".join([system.model, *system.defenses, *system.poison]) + f" seed {record.seed}"
