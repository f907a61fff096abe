"""The tables of stickers by view and along an approach, written into signs.md: `python docs/signs_table.py results`.

After `benchmark run suite=signs`, `benchmark run suite=rotating_signs` and `benchmark transfer`; tables of a suite that
the store lacks stay as they are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_leaderboard.ranking.statistics import bounded_interval, wilson
from benchmark_leaderboard.words.display import interval, percent
from benchmark_plugins.defenses.camera import viewed
from marked import filled

from benchmark.errors import RecordError
from benchmark.records.arrivals import FOLDER, read_arrivals
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.records.witness import WITNESS, Witness
from benchmark.stages.replay import checked_outcomes, rebuilt, rows_of

PAGE = Path(__file__).parent / "signs.md"
MARK = "table: python docs/signs_table.py STORE"
DRIVES = "drives: python docs/signs_table.py STORE"
TURNS = "turns: python docs/signs_table.py STORE"

FRAMES, ASIDE = 13, 0.8
"""Frames of an approach from distance 4 to 1, and how far beside the sign the camera passes, in units of distance."""

Camera = tuple[float, float, float, float]
"""Lowest and highest distance, lowest and highest angle."""

ANYWHERE: Camera = (1.0, 4.0, -60.0, 60.0)
FRONT: Camera = (1.0, 1.0, 0.0, 0.0)
ALL_SIDES: Camera = (1.0, 1.0, -60.0, 60.0)


def camera(record: Record) -> Camera:
    """The views of a record's system."""
    defenses: Any = record.system.config["defenses"]
    params = next(part["params"] for part in defenses if part["name"] == "camera")
    return (*map(float, params["distances"]), *map(float, params["angles"]))  # type: ignore[return-value]


def turntable(record: Record) -> Camera:
    """The sides from which a record's system sees its can; the distance is 1."""
    defenses: Any = record.system.config["defenses"]
    params = next(part["params"] for part in defenses if part["name"] == "turntable")
    low, high = map(float, params["angles"])
    return (1.0, 1.0, low, high)


def table(store: Store) -> str:
    """Share of stickers that reach their label, by view, for stickers made over all views and for one, in Markdown.

    Raises:
        RecordError: if cells or transfers are missing.
    """
    head = [
        "| distance | angle | right without | made over all views | made for distance 1, 0° | made for this view |",
        "|---|---|---|---|---|---|",
    ]
    rows = _by_view(store, "signs", camera, ANYWHERE)
    return "\n".join([*head, *(f"| {view[0]:g} | {view[2]:g}° | {shown}" for view, shown in rows)]) + "\n"


def turns(store: Store) -> str:
    """The same for prints on a can, by its angle, in Markdown.

    Raises:
        RecordError: if cells or transfers are missing.
    """
    head = [
        "| angle | right without | made over all sides | made for 0° | made for this side |",
        "|---|---|---|---|---|",
    ]
    rows = _by_view(store, "rotating_signs", turntable, ALL_SIDES)
    return "\n".join([*head, *(f"| {view[2]:g}° | {shown}" for view, shown in rows)]) + "\n"


def _by_view(
    store: Store, suite: str, view_of: Callable[[Record], Camera], anywhere: Camera
) -> list[tuple[Camera, str]]:
    """Each fixed view with its row of a table."""
    records = [r for r in store.records() if (r.suite or "").startswith(f"{suite}@") and r.status == "complete"]
    by_view = {view_of(record): record for record in records}
    views = {record.system.key: view for view, record in by_view.items()}
    counts: dict[tuple[Camera, Camera], tuple[int, int]] = {}
    for path in sorted((store.root / FOLDER).glob("*.json")):
        arrivals = read_arrivals(path)
        for pair in arrivals.pairs if arrivals is not None and arrivals.target in views else ():
            if pair.source in views:
                counts[views[pair.source], views[arrivals.target]] = (pair.transferred, pair.tried)  # type: ignore[union-attr]
    if not {anywhere, FRONT} <= set(by_view) or not counts:
        raise RecordError(
            f"{store.root} lacks cells of the suite {suite} or their transfers; run benchmark run suite={suite}, then "
            f"benchmark transfer --store {store.root}"
        )
    rows = []
    for view in sorted(by_view):
        if view[0] == view[1] and view[2] == view[3]:
            own = by_view[view].counts
            assert own is not None
            broken = (own.clean_correct - own.robust_correct, own.clean_correct)
            entries = [counts.get((anywhere, view)), counts.get((FRONT, view)), broken]
            shown = [_share(own.clean_correct, own.total), *(_share(*one) if one else "" for one in entries)]
            rows.append((view, " | ".join(shown) + " |"))
    return rows


def drives(store: Store, data: Path) -> str:
    """Frames of an approach in which stickers reach their label, by the cell that made them, in Markdown.

    Of stickers that reach it under their own camera, on signs that are read correctly without them in every frame.
    """
    lines = [
        "| made | stickers | frames misread | most frames misread | every frame misread |",
        "|---|---|---|---|---|",
    ]
    for record in store.records():
        if (record.suite or "").startswith("signs@") and record.status == "complete":
            view, name = camera(record), {ANYWHERE: "over all views", FRONT: "for distance 1, 0°"}
            if view in name:
                lines.append(f"| {name[view]} | {_drive(record, store, data)} |")
    return "\n".join(lines) + "\n"


def _drive(record: Record, store: Store, data: Path) -> str:
    cell = rebuilt(record, store, data, store.cell(record.key))
    outcomes = checked_outcomes(store.cell(record.key), record)
    witness = Witness.load(store.cell(record.key) / WITNESS)
    rows = rows_of(witness.ids, outcomes)
    clean = _read(cell.system.model, cell.examples.x(rows)) == outcomes.y[rows, None]
    kept = outcomes.broken[rows] & clean.all(1)
    misread = (_read(cell.system.model, witness.x_adv) == outcomes.adv_label[rows, None])[kept].double()
    share, count = misread.mean(1), len(misread)
    frames = f"{percent(float(share.mean()))} ({interval(*bounded_interval(share.numpy()))})"
    return f"{count} | {frames} | {_share(int((share > 0.5).sum()), count)} | {_share(int((share == 1).sum()), count)}"


def _read(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Labels of signs `x` (B, C, H, W) in each frame, (B, FRAMES) int64."""
    found = []
    for frame in range(FRAMES):
        distance = 4.0 - 3.0 * frame / (FRAMES - 1)
        angle = math.degrees(math.atan(ASIDE / distance))
        seen = viewed(x, *(torch.full((len(x),), value) for value in (distance, angle, 1.0))).clamp(0.0, 1.0)
        found.append(network(seen).argmax(1))
    return torch.stack(found, 1)


def _share(hits: int, of: int) -> str:
    return f"{percent(hits / of)} ({interval(*wilson(hits, of))}) of {of}" if of else ""


def main(arguments: list[str]) -> int:
    """Write the tables of a store into the page."""
    store = Store(Path(arguments[0]))
    suites = {(record.suite or "").partition("@")[0] for record in store.records()}
    made = {MARK: table(store), DRIVES: drives(store, Path("data"))} if "signs" in suites else {}
    if "rotating_signs" in suites:
        made[TURNS] = turns(store)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
