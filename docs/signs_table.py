"""The table of stickers by distance and angle, written into signs.md: `python docs/signs_table.py results`.

After `benchmark run suite=signs` and `benchmark transfer`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.display import interval, percent
from marked import filled

from benchmark.errors import RecordError
from benchmark.records.arrivals import FOLDER, read_arrivals
from benchmark.records.record import Record
from benchmark.records.store import Store

PAGE = Path(__file__).parent / "signs.md"
MARK = "table: python docs/signs_table.py STORE"

Camera = tuple[float, float, float, float]
"""Lowest and highest distance, lowest and highest angle."""

ANYWHERE: Camera = (1.0, 4.0, -60.0, 60.0)
FRONT: Camera = (1.0, 1.0, 0.0, 0.0)


def camera(record: Record) -> Camera:
    """The views of a record's system."""
    defenses: Any = record.system.config["defenses"]
    params = next(part["params"] for part in defenses if part["name"] == "camera")
    return (*map(float, params["distances"]), *map(float, params["angles"]))  # type: ignore[return-value]


def table(store: Store) -> str:
    """Share of stickers that reach their label, by view, for stickers made over all views and for one, in Markdown.

    Raises:
        RecordError: if cells or transfers are missing.
    """
    records = [r for r in store.records() if (r.suite or "").startswith("signs@") and r.status == "complete"]
    by_camera = {camera(record): record for record in records}
    cameras = {record.system.key: view for view, record in by_camera.items()}
    counts: dict[tuple[Camera, Camera], tuple[int, int]] = {}
    for path in sorted((store.root / FOLDER).glob("*.json")):
        arrivals = read_arrivals(path)
        for pair in arrivals.pairs if arrivals is not None and arrivals.target in cameras else ():
            if pair.source in cameras:
                counts[cameras[pair.source], cameras[arrivals.target]] = (pair.transferred, pair.tried)  # type: ignore[union-attr]
    if not {ANYWHERE, FRONT} <= set(by_camera) or not counts:
        raise RecordError(
            f"{store.root} lacks cells of the suite signs or their transfers; run benchmark run suite=signs, then "
            f"benchmark transfer --store {store.root}"
        )
    lines = [
        "| distance | angle | right without | made over all views | made for distance 1, 0° | made for this view |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for view in sorted(by_camera):
        if view[0] == view[1] and view[2] == view[3]:
            own = by_camera[view].counts
            assert own is not None
            broken = (own.clean_correct - own.robust_correct, own.clean_correct)
            entries = [counts.get((ANYWHERE, view)), counts.get((FRONT, view)), broken]
            shown = [_share(own.clean_correct, own.total), *(_share(*one) if one else "" for one in entries)]
            lines.append(f"| {view[0]:g} | {view[2]:g}° | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _share(hits: int, of: int) -> str:
    return f"{percent(hits / of)} ({interval(*wilson(hits, of))}) of {of}" if of else ""


def main(arguments: list[str]) -> int:
    """Write the table of a store into the page."""
    made = {MARK: table(Store(Path(arguments[0])))}
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
