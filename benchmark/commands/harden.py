"""`benchmark harden`: attack, add a defense and attack again, until a goal is reached or no candidate helps."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import ConfigError, RecordError

if TYPE_CHECKING:
    from benchmark.hardening.measure import Measured, Pool
    from benchmark.hardening.parts import Part
    from benchmark.hardening.search import Path as Searched
    from benchmark.hardening.search import Tried

__all__ = ["main"]

POOLS = {
    "white-box": ("pgd", "square", "adaptive"),
    "black-box": ("square", "spsa"),
}
"""Default attacks of the tests, by the attacker's knowledge."""

PROTECTIONS = (
    "adversarial_training",
    "bit_depth",
    "jpeg",
    "median_smoothing",
    "gaussian_augmentation",
    "adversarial_training loss=trades",
)
"""Default defenses to try."""


def main(options: argparse.Namespace) -> int:
    """Search, test the best stack on held-out examples, and write a report; returns 0 if the goal is reached, else 1.

    Raises:
        ConfigError: if an option is wrong. UntestableError: if the undefended system cannot be tested.
    """
    from benchmark.hardening.search import Aim, one_by_one, sampled

    searched = _numbers(options)
    own = [] if options.config_dir is None else [options.config_dir]
    pool = _pool(options, own)
    protections = _parts("defense", options.protect or PROTECTIONS, own)
    goal = Aim(_share(options.at_least, "--at-least"), _share(options.clean_loss, "--clean-loss"))
    if options.trials is None:
        path = one_by_one(pool, protections, goal, searched, _say)
    else:
        path = sampled(pool, protections, goal, searched, _say, trials=options.trials, seed=options.seed)
    final = pool.measure(path.best.stack, options.examples)
    reached, verdict = _verdict(path, final, searched)
    _write(options.out, path, final, searched, verdict, _deployed(pool, path.best, final, options))
    sys.stdout.write(f"{verdict}\nthe report: {options.out / 'report.md'}\n")
    return 0 if reached else 1


def _numbers(options: argparse.Namespace) -> int:
    """Number of examples that the search uses."""
    searched = options.examples // 2 if options.search_examples is None else options.search_examples
    if not 1 <= searched <= options.examples:
        raise ConfigError(
            f"--search-examples is {searched}, of {options.examples}; expected at least 1 and at most --examples"
        )
    if options.trials is not None and options.trials < 1:
        raise ConfigError(f"--trials is {options.trials}; expected at least 1")
    return int(searched)


def _share(value: float, option: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{option} is {value}; expected a share between 0 and 1, such as 0.4 for 40 %")
    return value


def _parts(kind: str, texts: tuple[str, ...] | list[str], own: Sequence[Path]) -> list[Part]:
    from benchmark.hardening.parts import parts

    return [part for text in texts for part in parts(kind, text, own)]


def _pool(options: argparse.Namespace, own: Sequence[Path]) -> Pool:
    from benchmark.hardening.measure import Pool

    overrides = list(options.overrides)
    if options.attacker == "black-box" and not any(word.startswith("threat.access=") for word in overrides):
        overrides.append("threat.access=scores")
    attacks = _parts("attack", options.attack or POOLS[options.attacker], own)
    return Pool(overrides, attacks, own)


def _say(step: Tried) -> None:
    """Print one line about a finished step."""
    measured = step.measured
    figures = "not tested" if measured is None else f"clean {measured.accuracy:.1%}, robust {measured.robust:.1%}"
    sys.stdout.write(f"{'keep' if step.kept else 'drop'}  {step.label}: {figures}; {step.why}\n")
    sys.stdout.flush()


def _verdict(path: Searched, final: Measured, searched: int) -> tuple[bool, str]:
    """True if the goal is reached on held-out examples, and a sentence with exact confidence bounds."""
    from benchmark_leaderboard.gate.decide import decide_share

    fresh = final.held[searched:] if len(final.held) > searched else final.held
    right, total = int(fresh.sum()), len(fresh)
    found = decide_share(right, total, path.goal.robust)
    bounds = f"{right} of {total}, {100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"
    asked = f"{100 * path.goal.robust:.1f} % required"
    if found.value >= path.goal.robust:
        sure = "" if found.outcome == "pass" else "; the lower bound is below the goal: confirm with more examples"
        return True, f"Reached with {path.best.label}: robust on {bounds}, {asked}{sure}."
    return False, f"Not reached: the best stack, {path.best.label}, is robust on {bounds}, {asked}."


def _deployed(pool: Pool, best: Tried, final: Measured, options: argparse.Namespace) -> list[str]:
    from benchmark.hardening.deploy import deploy
    from benchmark.records.store import Store

    config = pool.config(best.stack, pool.attacks[0], options.examples)
    try:
        return deploy(final.records[0], Store(Path(config.store.root)), Path(config.store.data), options.out / "model")
    except RecordError as error:
        return [f"not written: {error}"]


def _write(out: Path, path: Searched, final: Measured, searched: int, verdict: str, told: list[str]) -> None:
    from benchmark.hardening.report import as_data, page
    from benchmark.records.durable import write_atomic

    write_atomic(out / "path.json", json.dumps(as_data(path), indent=2) + "\n")
    write_atomic(out / "report.md", page(path, final, searched, verdict, told))
