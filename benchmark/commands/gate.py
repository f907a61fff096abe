"""`benchmark gate`: decide for continuous integration whether a model may ship: yes, no, or undecided."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import BenchmarkError, ConfigError, StoreError

if TYPE_CHECKING:
    from benchmark_leaderboard.gate.checks import Goals, Tested, Verdict

    from benchmark.records.described import AttackInfo

__all__ = ["UNDECIDED", "main"]

UNDECIDED = 3
"""Exit code if there are too few examples to decide."""

CODES = {"pass": 0, "fail": 1, "undecided": UNDECIDED}


def main(options: argparse.Namespace) -> int:
    """Judge the store, write the requested documents and print the reason; returns the exit code.

    Raises:
        ConfigError: if no goal is given, or one is malformed.
        StoreError: if a folder is not a store.
    """
    goals = asked_goals(options)
    verdict = verdict_of(
        options.store, options.data, goals, options.baseline, options.witnesses, own=options.config_dir
    )
    _write(options, verdict)
    for check in verdict.checks:
        sys.stdout.write(f"{check.decision.outcome:9}  {check.sentence}\n")
    for problem in verdict.problems:
        sys.stdout.write(f"problem    {problem}\n")
    sys.stderr.write(verdict.reason + "\n")
    return CODES[verdict.outcome]


def asked_goals(options: argparse.Namespace) -> Goals:
    """Parse the goals of the options.

    Raises:
        ConfigError: if no goal is given, or one is not a share between 0 and 1.
    """
    from benchmark_leaderboard.gate.checks import Goals

    attacks = {name: _share(share, f"--attack {name}") for name, share in map(_pair, options.attack)}
    classes = {_label(label): _share(share, f"--class {label}") for label, share in map(_pair, options.labels)}
    if options.every_class is not None:
        classes[-1] = _share(options.every_class, "--every-class")
    goals = Goals(
        robust=None if options.at_least is None else _share(options.at_least, "--at-least"),
        clean=None if options.clean is None else _share(options.clean, "--clean"),
        attacks=attacks,
        classes=classes,
        loss=_share(options.loss, "--loss"),
    )
    if not (attacks or classes or options.baseline or goals.robust is not None or goals.clean is not None):
        raise ConfigError(
            "the gate has no goal; give at least one of --at-least, --clean, --attack, --every-class, --class or "
            "--baseline"
        )
    return goals


def _pair(text: str) -> tuple[str, str]:
    name, equals, share = text.partition("=")
    if not (name and equals):
        raise ConfigError(f"{text!r} is not a goal; expected NAME=SHARE, such as pgd=0.5")
    return name, share


def _label(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"--class {text}: {text!r} is not a label; expected a whole number, such as --class 3=0.4")
    return int(text)


def _share(value: str | float, option: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"{option} is {value}; expected a share between 0 and 1, such as 0.4 for 40 %")
    return share


def verdict_of(
    store: Path, data: Path, goals: Goals, baseline: Path | None, witnesses: Path | None, *, own: Path | None = None
) -> Verdict:
    """Judge the systems of a store.

    Args:
        own: folder of the user's variants, as --config-dir names it.

    Raises:
        StoreError: if a folder is not a store. RecordError: if the baseline cannot be compared.
    """
    from benchmark_leaderboard.gate.checks import judge, tested_systems

    cells, unreadable = _cells(store)
    systems = tested_systems(cells, _variants(goals, [] if own is None else [own]))
    before = tested_systems(_cells(baseline)[0], {}) if baseline is not None else ()
    replayed = _replayed(systems, store, data, witnesses) if witnesses is not None else {}
    failed = [cell.record for cell in cells if cell.record.status == "failed"]
    problems = [*unreadable, *(f"{record.name} {record.status}: {record.error}" for record in failed)]
    return judge(systems, goals, problems=problems, baseline=before, replayed=replayed)


def _variants(goals: Goals, own: Sequence[Path]) -> dict[str, AttackInfo]:
    """Attacks of the goals that are variants, such as pgd_10 or one of an `own` folder, with their settings."""
    from benchmark import registry
    from benchmark.config.members import is_variant, named_node

    found = {}
    for name in goals.attacks:
        if name not in registry.names("attack") and is_variant("attack", name, own):
            from omegaconf import OmegaConf

            from benchmark.config.describe import attack_info

            attack: Any = OmegaConf.to_object(named_node("attack", name, own))
            found[name] = attack_info(attack)
    return found


def _cells(store: Path) -> tuple[list[Any], tuple[str, ...]]:
    """The cells of a store, and an error sentence for each unreadable one."""
    from benchmark_leaderboard.cells.load import read

    folder = store / "cells" if (store / "cells").is_dir() else store
    if not folder.is_dir():
        raise StoreError(f"there is no folder {store}; name a store, as store.root named it, or a folder of cells")
    cells, problems = read([folder], files=True)
    return cells, tuple(problem.sentence for problem in problems)


def _replayed(systems: Sequence[Tested], store: Path, data: Path, witnesses: Path) -> dict[str, Any]:
    """Examples of each system, by name, that a stored witness of the same threat breaks now, (N,) bool."""
    from benchmark.commands.transfer import broken_by
    from benchmark.records.store import Store

    others = [cell.record for cell in _cells(witnesses)[0] if cell.record.status == "complete"]
    here, there = Store(store), Store(witnesses)
    found = {}
    for tested in systems:
        try:
            broken = broken_by(tested.record, here, data, others, there)
        except BenchmarkError as error:
            raise StoreError(f"the witnesses of {witnesses} cannot be replayed on {tested.name}: {error}") from error
        if broken is not None:
            found[tested.name] = broken
    return found


def _write(options: argparse.Namespace, verdict: Verdict) -> None:
    """Write the requested documents; their links to the records are relative to where each document lies."""
    from benchmark_leaderboard.gate.documents import junit, markdown, sarif
    from benchmark_leaderboard.gate.evidence import evidence, model_card

    from benchmark.records.durable import write_atomic

    folder = options.store / "cells" if (options.store / "cells").is_dir() else options.store

    def root(path: Path) -> str:
        return Path(os.path.relpath(folder, path.resolve().parent)).as_posix()

    if options.junit:
        write_atomic(options.junit, junit(verdict))
    if options.sarif:
        write_atomic(options.sarif, sarif(verdict, folder.as_posix()))
    if options.markdown:
        write_atomic(options.markdown, markdown(verdict))
    if options.evidence:
        write_atomic(options.evidence, evidence(verdict, root(options.evidence)))
    if options.card:
        write_atomic(options.card, model_card(verdict, root(options.card)))
