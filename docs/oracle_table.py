"""Fill oracle-table.md from the records of a store: distances that attacks found against exact ones.

`python docs/oracle_table.py results`, after the commands of the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from marked import filled
from safetensors.numpy import load_file

from benchmark.errors import RecordError
from benchmark.records.record import Record, read_record

PAGE = Path(__file__).parent / "oracle-table.md"
LINEAR, NETWORK = "nearest_class_mean", "mlp"
NORMS = ("linf", "l2", "l1", "l0")
ROUNDING = 1e-5
"""What `certifier.exact` takes off a distance."""

ASKED: dict[tuple[str, str], tuple[float, float | None]] = {
    **{("deepfool", norm): (1.001, 1.005) for norm in ("linf", "l2")},
    ("superdeepfool", "l2"): (1.001, 1.008),
    **{("fab", norm): (1.001, 1.006) for norm in ("linf", "l2", "l1")},
    ("carlini_wagner", "l2"): (1.001, 1.03),
    ("lbfgs", "l2"): (1.001, None),
    ("ddn", "l2"): (1.05, 1.08),
    **{("fmn", norm): (1.001, 1.02) for norm in NORMS},
    **{("pdpgd", norm): (1.03, 1.05) for norm in ("linf", "l2", "l1")},
    **{("alma", norm): (1.005, 1.01) for norm in ("l2", "l1")},
    ("sigma_zero", "l0"): (1.0, 1.03),
}
"""By attack and norm: the largest median and mean ratio on the linear classifier that the project allows itself."""

EXACT = {
    ("apgd", "margin_targeted"): "APGD, margin",
    ("autoattack", None): "AutoAttack",
    ("one_pixel", None): "one-pixel",
}
"""The attacks at a radius that are asked to break all that can be broken, by plugin and loss."""


@dataclass(frozen=True)
class Cell:
    """A cell with exact distances. ratio: (N,) of the examples attacked, infinite where nothing was found.

    right, best: how many of `total` examples the attack left right, and a perfect one would leave.
    """

    record: Record
    ratio: np.ndarray
    right: int
    best: int
    total: int

    @property
    def attack(self) -> str:
        """The plugin."""
        return self.record.attack.name

    @property
    def loss(self) -> str | None:
        """Its loss, where it has one."""
        loss: str | None = self.record.attack.params.get("loss")
        return loss

    @property
    def passes(self) -> float:
        """Forward and backward passes per example attacked."""
        cost, counts = self.record.cost, self.record.counts
        assert cost is not None
        assert counts is not None
        return (cost.forwards + cost.backwards) / max(1, counts.clean_correct)


def read(store: Path) -> list[Cell]:
    """The complete cells of a store whose examples have exact distances, in order.

    Raises:
        RecordError: if there are none.
    """
    found = []
    for path in sorted((store / "cells").glob("*/record.json")):
        record = read_record(path)
        if record.status != "complete" or record.counts is None or record.threat.targeted:
            continue
        outcomes = load_file(path.with_name("outcomes.safetensors"))
        known = outcomes["attacked"] & outcomes["valid"] & (outcomes["certified"] > 0)
        if not known.any():
            continue
        exact = outcomes["certified"].astype(np.float64) / (1.0 - ROUNDING)
        far = np.where(outcomes["adversarial"], outcomes[record.threat.norm], np.inf)
        best = outcomes["clean_correct"] & (exact > record.threat.eps * (1.0 + ROUNDING / 2))
        counts = record.counts
        found.append(Cell(record, (far / exact)[known], counts.robust_correct, int(best.sum()), counts.total))
    if not found:
        raise RecordError(f"{store} has no complete cell with exact distances; run the commands of {PAGE.name} first")
    return sorted(
        found,
        key=lambda c: (NORMS.index(c.record.threat.norm), c.record.threat.eps, c.attack, str(c.loss), c.record.key),
    )


def of_suite(cells: Sequence[Cell], model: str) -> list[Cell]:
    """The official cells of suite=oracle on that model."""
    return [c for c in cells if (c.record.suite or "").startswith("oracle@") and c.record.official and _is(c, model)]


def _is(cell: Cell, model: str) -> bool:
    return cell.record.system.model == model


def smallest(cells: Sequence[Cell], *, asked: bool) -> str:
    """The table of the attacks that look for the smallest perturbation."""
    last = " asked for: median, mean |" if asked else ""
    lines = [f"| norm | attack | found | least | median | mean | worst | passes |{last}", "|---" * (8 + asked) + "|"]
    minimal = [cell for cell in cells if cell.record.attack.minimal]
    for cell in sorted(minimal, key=lambda c: (NORMS.index(c.record.threat.norm), _mean(c), c.attack)):
        norm, ratio = cell.record.threat.norm, cell.ratio
        found = int(np.isfinite(ratio).sum())
        values = [ratio.min(), np.median(ratio), _mean(cell), ratio.max()]
        row = [norm, cell.attack, f"{found} of {len(ratio)}", *map(_ratio, values), f"{cell.passes:.0f}"]
        if asked:
            bounds = ASKED.get((cell.attack, norm), ())
            row.append(", ".join("" if bound is None else f"{bound:g}" for bound in bounds).removesuffix(", "))
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _mean(cell: Cell) -> float:
    return float(cell.ratio.mean())


def _ratio(value: float) -> str:
    if not np.isfinite(value):
        return "\N{INFINITY}"
    return f"{value:.4f}" if value < 10 else f"{value:.1f}"


def at_radius(cells: Sequence[Cell]) -> str:
    """The table of the attacks at a radius: what they leave right, and what a perfect attack would leave."""
    lines = ["| norm | attack | right | exact | of | passes |", "|---|---|---|---|---|---|"]
    for cell in cells:
        if not cell.record.attack.minimal:
            name = cell.attack + (f", {cell.loss}" if cell.attack == "apgd" else "")
            norm, eps = cell.record.threat.norm, cell.record.threat.eps_exact
            row = [f"{norm} {eps}", name, f"{cell.right}", f"{cell.best}", f"{cell.total}", f"{cell.passes:.0f}"]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def every_radius(cells: Sequence[Cell]) -> str:
    """The table of the attacks that are asked to be exact, at every radius that the page's commands name."""
    columns = list(EXACT.values())
    lines = ["| norm, radius | exact | " + " | ".join(columns) + " | of |", "|---" * (len(columns) + 3) + "|"]
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        loss = cell.loss if cell.attack == "apgd" else None
        if _is(cell, LINEAR) and cell.record.suite is None and (cell.attack, loss) in EXACT:
            at = cell.record.threat.norm, cell.record.threat.eps_exact
            rows.setdefault(at, {})[EXACT[cell.attack, loss]] = cell
    for (norm, eps), row in rows.items():
        one = next(iter(row.values()))
        counted = [str(row[name].right) if name in row else "" for name in columns]
        lines.append("| " + " | ".join([f"{norm} {eps}", str(one.best), *counted, str(one.total)]) + " |")
    return "\n".join(lines) + "\n"


def tables(cells: Sequence[Cell]) -> dict[str, str]:
    """Every table of the page, by the name in its mark."""
    linear, network = of_suite(cells, LINEAR), of_suite(cells, NETWORK)
    return {
        "linear": smallest(linear, asked=True),
        "linear-radius": at_radius(linear),
        "radii": every_radius(cells),
        "network": smallest(network, asked=False),
        "network-radius": at_radius(network),
    }


def main(arguments: Iterable[str]) -> int:
    """Write the tables of the store that is named into the page."""
    (store,) = arguments
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), tables(read(Path(store)))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
