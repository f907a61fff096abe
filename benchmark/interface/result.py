"""Result of an evaluation: its cells, and numbers, tables, curves and images made from them."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import BenchmarkError, ConfigError
from benchmark.interface.pictures import as_html
from benchmark.records.paired import Comparison, Kept, compared, kept_of
from benchmark.records.record import Record
from benchmark.records.summary import COLUMNS, Interval, clean_of, outcomes_of, plain_rows, proportion, shown_rows
from benchmark.records.tables import table
from benchmark.threat.radius import tolerance

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cell", "Curve", "Evaluation", "Records", "compare"]

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A record and its folder, with outcomes, witness and gallery beside it."""

    record: Record
    folder: Path

    @cached_property
    def outcomes(self) -> dict[str, NDArray[Any]]:
        """Outcomes per example, by name as in :class:`benchmark.records.outcomes.Outcomes`."""
        return outcomes_of(self.folder)

    def witness(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids (M,) and adversarial examples (M, *S) in [0, 1], channels first, of the broken examples."""
        from benchmark.records.witness import WITNESS, Witness

        found = Witness.load(self.folder / WITNESS)
        return found.ids.numpy(), found.x_adv.numpy()


@dataclass(frozen=True, eq=False)
class Curve:
    """Robust accuracy as a function of the radius, with 95 % intervals: an upper bound at every radius.

    eps: (R,) in units of [0, 1] and of `norm`. accuracy, low, high: (R,).
    """

    norm: str
    eps: _Floats
    accuracy: _Floats
    low: _Floats
    high: _Floats


class Records(Sequence[Cell]):
    """Cells of a store, or of an evaluation."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = tuple(cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, at: Any) -> Any:
        return Records(self.cells[at]) if isinstance(at, slice) else self.cells[at]

    @property
    def records(self) -> list[Record]:
        """The records."""
        return [cell.record for cell in self.cells]

    def to_frame(self) -> pd.DataFrame:
        """Data frame of pandas with a row per cell.

        Raises:
            BenchmarkError: if pandas is not installed, with the command to install it.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise BenchmarkError("to_frame needs pandas, which is not installed; try: pip install pandas") from error
        return pd.DataFrame(plain_rows(self.records))

    def table(self, form: str = "text") -> str:
        """Table with a row per cell, as text, csv, markdown or latex."""
        return table(COLUMNS, shown_rows(self.records), form)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return as_html(list(COLUMNS), shown_rows(self.records), (), ())


class Evaluation(Records):
    """Result of :func:`benchmark.evaluate`: a cell per attack, and the worst case over them.

    notes: sentences about the interpretation of inputs and threat. folder: of the store; a temporary one is deleted
    with the result.
    """

    def __init__(self, cells: Sequence[Cell], notes: Sequence[str], folder: Path, *, kept: bool) -> None:
        super().__init__(cells)
        self.notes, self.folder = tuple(notes), folder
        if not kept:
            weakref.finalize(self, shutil.rmtree, str(folder), ignore_errors=True)

    @property
    def complete(self) -> list[Cell]:
        """Completed cells."""
        return [cell for cell in self.cells if cell.record.status == "complete"]

    @property
    def robust(self) -> NDArray[np.bool_]:
        """Examples that are correct and stay so under every attack, (N,) bool."""
        return self._kept.robust

    @cached_property
    def _kept(self) -> Kept:
        name = self.cells[0].record.system.name.partition("/")[2]
        return kept_of(name, [(cell.record, cell.folder) for cell in self.cells])

    @property
    def robust_accuracy(self) -> Interval:
        """Fraction of examples that are correct and stay so under every attack, with its 95 % interval."""
        return self._kept.accuracy

    @property
    def clean_accuracy(self) -> Interval:
        """Fraction of examples that are correct without an attack, with its 95 % interval."""
        found = clean_of(self.complete[0].record)
        assert found is not None
        return found

    def curve(self, eps: Sequence[float] | None = None) -> Curve:
        """Robust accuracy over the radius, from adversarial distances; an upper bound at each radius.

        Args:
            eps: radii in units of [0, 1]; by default all at which it changes.

        Raises:
            ConfigError: if a radius is larger than the attacks' own.
        """
        norm, radius = self.complete[0].record.threat.norm, self.complete[0].record.threat.eps
        minimal = all(cell.record.attack.minimal for cell in self.complete)
        bounded = [cell for cell in self.complete if cell.record.attack.bounded]
        if not bounded:
            raise ConfigError("none of these attacks is bounded by a norm, so there is no curve over a radius")
        nearest = np.minimum.reduce([np.where(cell.outcomes["adversarial"], cell.outcomes[norm], np.inf)
                                     for cell in bounded]).astype(np.float64)  # fmt: skip
        judged = [cell.outcomes["valid"] | ~cell.outcomes["attacked"] for cell in bounded]
        right = np.logical_and.reduce([*judged, *(cell.outcomes["clean_correct"] for cell in bounded)])
        finite = nearest[right & np.isfinite(nearest)]
        if eps is None:
            inside = finite if minimal else finite[finite <= radius * (1 + 1e-6)]
            radii = np.unique(np.concatenate([[0.0, radius], inside]))
        else:
            radii = np.asarray(eps, dtype=np.float64)
            if len(radii) and radii.max() > radius * (1 + 1e-6) and not minimal:
                raise ConfigError(
                    f"a radius of {radii.max():.6g} is larger than the threat's {radius:.6g}, within which these "
                    "attacks searched; evaluate at that radius, or use a minimal attack such as fmn"
                )
        reach = np.array([one + tolerance(norm, one) if one > 0 else 0.0 for one in radii])
        held = right[None] & ~(nearest[None] <= reach[:, None])
        shares = [proportion(int(count), len(right)) for count in held.sum(1)]
        values = np.array(shares, dtype=np.float64).reshape(-1, 3)
        return Curve(norm, radii, values[:, 0], values[:, 1], values[:, 2])

    def plot(self, axes: Any = None) -> Any:
        """Draw the curve and its confidence band into matplotlib axes (new ones by default), and return them.

        Raises:
            BenchmarkError: if matplotlib is not installed, with the command to install it.
        """
        if axes is None:
            try:
                import matplotlib.pyplot as plt
            except ModuleNotFoundError as error:
                raise BenchmarkError(
                    "plot needs matplotlib, which is not installed; try: pip install 'adversarial-benchmark[plot]'"
                ) from error
            _, axes = plt.subplots()
        curve = self.curve()
        names = ", ".join(cell.record.attack.label for cell in self.complete)
        axes.step(curve.eps, curve.accuracy, where="post", label=f"{self._kept.name} under {names}")
        axes.fill_between(curve.eps, curve.low, curve.high, step="post", alpha=0.2)
        axes.set(xlabel=f"radius ({curve.norm}, inputs in [0, 1])", ylabel="robust accuracy", ylim=(0, 1))
        axes.legend()
        return axes

    def table(self, form: str = "text") -> str:
        """Table with a row per attack and, for several, one for their worst case; as text, csv, markdown or latex."""
        return table(ATTACK_COLUMNS, self._rows(), form)

    def _rows(self) -> list[list[str]]:
        rows = []
        for shown in shown_rows(self.records):
            _, threat, attack, _, robust, clean, passes, seconds, status = shown
            rows.append([attack, threat, robust, clean, passes, seconds, status])
        if len(self.complete) > 1:
            rows.append(["worst case", rows[0][1], str(self.robust_accuracy), str(self.clean_accuracy), "", "", ""])
        return rows

    def findings(self) -> tuple[str, ...]:
        """Distinct findings of the standing checks, as sentences."""
        said = [f"{f.severity}: {f.name}: {f.evidence}" for c in self.cells for f in c.record.findings]
        return tuple(dict.fromkeys(said))

    def __str__(self) -> str:
        return "\n".join([self.table(), *self.notes, *self.findings()])

    def _repr_html_(self) -> str:
        galleries = tuple(cell.folder / "gallery.safetensors" for cell in self.complete)
        return as_html(list(ATTACK_COLUMNS), self._rows(), (*self.notes, *self.findings()), galleries)

    def __repr__(self) -> str:
        return f"<Evaluation {self._kept.name}: robust {self.robust_accuracy}, {len(self.cells)} attacks>"


ATTACK_COLUMNS = ("attack", "threat", "robust accuracy", "clean accuracy", "passes", "seconds", "status")


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Compare two results on the same examples: an exact paired test, and the examples robust in only one of them.

    Raises:
        RecordError: if their examples differ.
    """
    return compared(first._kept, second._kept)
