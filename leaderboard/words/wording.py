"""Display names on the site, and sentences about a board."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Sequence
from importlib import resources
from itertools import product
from math import prod
from pathlib import PurePath

from markupsafe import Markup

from benchmark.records.record import Record
from benchmark.tasks.task import CLASSIFICATION

from ..board import ANY_CHANGE, Board, Protocol, Rate, Resolution, Row
from .display import interval, percent

__all__ = [
    "answer",
    "answered",
    "breakable",
    "commands",
    "heading",
    "norm_sign",
    "radius",
    "rank",
    "resolution",
    "slug",
    "standing",
    "suite_title",
    "unusual",
    "words",
]

OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][A-Za-z0-9_.@/]*(=|$)")
"""Pattern of a configuration override, as opposed to an option such as --config-dir."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""Pattern of the name of a variant, as opposed to a path or a list."""
PLACE_ONLY = ("store", "hydra", "tracker", "retry", "trainer", "batch_size")
"""Overrides about where and how a cell is computed, which change no result."""


def slug(text: str) -> str:
    """Lower-case letters, digits and dashes, safe in a file name and in a URL."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48].strip("-")


def words(name: str) -> str:
    """Identifier as displayed words."""
    return name.replace("_", " ")


@functools.lru_cache(4096)
def breakable(name: str) -> Markup:
    """Name with line breaks allowed after underscores and plus signs."""
    return Markup("<wbr>").join(re.split(r"(?<=[_+])(?=\w)", name))


def norm_sign(norm: str) -> str:
    """Sign of the norm of that name: L∞ of linf."""
    return "L" + norm.removeprefix("l").replace("inf", "\N{INFINITY}")


def radius(protocol: Protocol) -> str:
    """Norm and exact radius: L∞ ≤ 8/255. Attacks that no norm bounds share a board without a radius."""
    if protocol.conditions.norm == ANY_CHANGE:
        return "no norm bound"
    unit = " features" if protocol.conditions.norm == "l0" else ""
    return f"{norm_sign(protocol.conditions.norm)} \N{LESS-THAN OR EQUAL TO} {protocol.eps_exact}{unit}"


def heading(protocol: Protocol) -> str:
    """Radius as a heading."""
    said = radius(protocol)
    return said[0].upper() + said[1:]


def rank(row: Row) -> str:
    """Ranks compatible with the tests: 3, or 3-9; a dash for an unranked row."""
    of = row.ranks
    if of is None:
        return "\N{EN DASH}"
    return str(of.low) if of.low == of.high else f"{of.low}\N{EN DASH}{of.high}"


def standing(board: Board, row: Row) -> str:
    """Rank of a row and the number of ranked rows."""
    return "not ranked" if row.ranks is None else f"rank {rank(row)} of {board.ranked}"


def unusual(protocol: Protocol) -> str:
    """Unusual parts of the threat besides norm and radius; empty for the usual one."""
    of = protocol.conditions
    found = [] if of.aware else ["attacker unaware of the defense"]
    goal = "top-5" if of.goal == "top5" else words(of.goal)
    found += [] if of.goal in ("untargeted", "any", "") else [f"goal: {goal}"]
    found += [] if of.region in ("full", "") else [f"region: {words(of.region)}"]
    found += [] if of.levels is None else [f"{of.levels} values per feature"]
    return ", ".join(found)


def suite_title(protocol: Protocol) -> str:
    """Suite and dataset, with a note if the protocol was not kept."""
    name = f"Suite {protocol.conditions.suite}" if protocol.conditions.suite else "Outside suites"
    kept = "" if protocol.conditions.official or not protocol.conditions.suite else " (unofficial)"
    task = protocol.conditions.task
    return f"{name}{kept}: {words(protocol.conditions.dataset)}{'' if task == CLASSIFICATION else f', {task}'}"


def answer(board: Board) -> tuple[str, str]:
    """Summary of a board in two parts: the leader, and its margin."""
    rows, front = board.rows[: board.ranked], board.front
    if not rows and any(alarm.name == "not_attacked" for alarm in board.alarms):
        return "No system is ranked.", "None was attacked: random noise alone does not show robustness."
    if not rows:
        return "No system is ranked.", "None was subjected to every required attack."
    best = rows[0]
    held = f"{percent(best.robust.value, best.robust.low, best.robust.high)} %"
    if best.robust.value == 0:
        return (
            "No system is robust.",
            f"Attacks broke all {board.protocol.conditions.total} examples of every system.",
        )
    tail = f"classifies {held} of the examples correctly under every attack ({_unbroken(best.robust)})"
    of = best.certified
    tail += f", and {percent(of.value, of.low, of.high)} % are certified." if of else "."
    if front == 1:
        return best.label, tail
    if front == len(rows):
        return f"No significant difference between these {front} systems.", f"The first, {best.label}, {tail}"
    last = rows[front - 1]
    low = percent(last.robust.value, last.robust.low, last.robust.high)
    return f"{front} systems are tied for first place,", f"from {best.label} with {held} to {last.label} with {low} %."


def _unbroken(rate: Rate) -> str:
    """Interval without line breaks."""
    return interval(rate.low, rate.high).replace("\N{EN DASH}", "\N{WORD JOINER}\N{EN DASH}\N{WORD JOINER}")


def answered(label: int) -> str:
    """Prediction of a system on an attacked input, by its label; -1 is a detector's refusal."""
    return "rejected" if label == -1 else f"classified as {label}"


def resolution(of: Resolution, total: int) -> str:
    """Sentences about the differences that this many examples can and cannot resolve."""
    if of.neighbours == 0:
        return ""
    if of.neighbours == 1:
        verdict = "separates" if of.separable_pairs else "does not separate"
        said = f"With {total} examples, the paired test {verdict} the two systems."
    else:
        said = (
            f"With {total} examples, paired tests separate {of.separable_neighbours} of {of.neighbours} neighbouring "
            f"systems and {of.separable_pairs} of all {of.pairs} pairs."
        )
    if of.detectable is not None:
        said += (
            f" The smallest difference detectable by a single paired test is about {100 * of.detectable:.1f} points."
        )
    if of.more_examples:
        said += f" About {of.more_examples} more examples would be needed to separate the first two."
    return said


def commands(records: Sequence[Record]) -> list[str]:
    """Command lines that repeat these cells: one sweep if the overrides form a full grid, else one line per cell.

    The overrides are those in the records; a record without them, or with anything else among them, gives no line.
    """
    lines = []
    for record in records:
        kept = record.provenance.get("overrides")
        if not isinstance(kept, list):
            continue
        named = {}
        if not all(OVERRIDE.match(str(text)) for text in kept):
            continue
        for text in kept:
            name, _, value = str(text).partition("=")
            if re.split(r"[./@]", name.lstrip("+~"), maxsplit=1)[0] not in PLACE_ONLY:
                named[name] = value
        if named not in lines:
            lines.append(named)
    grid = _grid(lines)
    if grid is not None:
        return [grid]
    return [shlex.join(["benchmark", "run", *(f"{name}={value}" for name, value in named.items())]) for named in lines]


def needed(records: Sequence[Record]) -> list[str]:
    """Names of what else the commands need: the user's own files, and variants of a folder of settings."""
    found: dict[str, None] = {}
    for record in records:
        inputs, overrides = record.provenance.get("inputs"), record.provenance.get("overrides")
        for digest, place in inputs.items() if isinstance(inputs, dict) else ():
            found[f"the file or folder {PurePath(str(place)).name} ({str(digest)[:19]})"] = None
        of_own = {"attack": record.attack.name, "model": record.system.model, "dataset": record.system.dataset}
        for text in overrides if isinstance(overrides, list) else ():
            kind, _, name = str(text).partition("=")
            own = kind in of_own and name != of_own[kind] and NAME.fullmatch(name)
            if own and not resources.files("benchmark.conf").joinpath(kind, f"{name}.yaml").is_file():
                found[f"{kind}/{name}.yaml in a folder named by --config-dir"] = None
    return list(found)


def _grid(lines: Sequence[dict[str, str]]) -> str | None:
    """The lines as one sweep, if they are exactly all combinations of their values."""
    if len(lines) < 2 or any(list(line) != list(lines[0]) for line in lines):
        return None
    values = {name: sorted({line[name] for line in lines}, key=lambda text: (len(text), text)) for name in lines[0]}
    if prod(map(len, values.values())) != len(lines):
        return None
    assert {tuple(line.values()) for line in lines} == set(product(*values.values()))
    return shlex.join(["benchmark", "run", "-m", *(f"{name}={','.join(kept)}" for name, kept in values.items())])
