"""Greedy or sampled search for defenses, each kept if it improves robustness against an attacker who knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from scipy import special

from benchmark.errors import ConfigError, MissingPackage
from benchmark.hardening.measure import Measured, Pool, UntestableError
from benchmark.hardening.parts import Part

__all__ = ["Aim", "Path", "Tried", "one_by_one", "sampled"]

LEVEL = 0.05
"""Significance level of the test for a gain."""


@dataclass(frozen=True)
class Aim:
    """Goal of a search. robust: robust accuracy to reach. clean_loss: largest loss of clean accuracy."""

    robust: float
    clean_loss: float = 0.05


@dataclass(frozen=True)
class Tried:
    """One tried stack. measured: None if it could not be tested. kept: whether the search continued from it.

    gain: of robust accuracy against the stack before. loss: of clean accuracy against no defense.
    """

    stack: tuple[Part, ...]
    measured: Measured | None
    kept: bool
    why: str
    gain: float = 0.0
    loss: float = 0.0

    @property
    def label(self) -> str:
        """Display name of the stack."""
        return " + ".join(part.label for part in self.stack) or "no protection"


@dataclass
class Path:
    """All tried stacks, in order."""

    goal: Aim
    steps: list[Tried] = field(default_factory=list)

    @property
    def best(self) -> Tried:
        """Last step that was kept."""
        return next(step for step in reversed(self.steps) if step.kept)

    @property
    def reached(self) -> bool:
        """True if the best stack reaches the goal on the examples of the search."""
        measured = self.best.measured
        return measured is not None and measured.robust >= self.goal.robust


Told = Callable[[Tried], None]


def one_by_one(pool: Pool, protections: Sequence[Part], goal: Aim, examples: int, told: Told) -> Path:
    """Add one defense after the other to the stack, in the given order, until the goal is reached.

    Of several settings of a defense the best is taken. A defense is kept if it raises the robust accuracy significantly
    in a paired one-sided test (McNemar, 1947), and clean accuracy is at most `goal.clean_loss` below that of no
    defense.

    Args:
        told: called after each step.

    Raises:
        UntestableError: if the undefended system cannot be tested.
    """
    path = Path(goal)
    _note(path, Tried((), pool.measure((), examples), True, "the start"), told)
    for _, group in groupby(protections, key=lambda part: part.name):
        if path.reached:
            break
        tried = [_step(pool, path, (*path.best.stack, part), examples) for part in group]
        best = max((s for s in tried if s.kept), key=lambda s: s.measured.robust if s.measured else 0.0, default=None)
        for step in tried:
            beaten = step.kept and step is not best
            _note(path, replace(step, kept=False, why="another of its settings helps more") if beaten else step, told)
    return path


def _note(path: Path, step: Tried, told: Told) -> None:
    path.steps.append(step)
    told(step)


def _step(pool: Pool, path: Path, stack: tuple[Part, ...], examples: int) -> Tried:
    """Measure a stack and compare it with the best so far."""
    try:
        measured = pool.measure(stack, examples)
    except (UntestableError, ConfigError) as error:
        return Tried(stack, None, False, str(error))
    first, before = path.steps[0].measured, path.best.measured
    assert first is not None
    assert before is not None
    gain, loss = measured.robust - before.robust, first.accuracy - measured.accuracy
    won = int((measured.held & ~before.held).sum())
    lost = int((~measured.held & before.held).sum())
    chance = float(special.bdtrc(won - 1, won + lost, 0.5)) if won else 1.0
    if loss > path.goal.clean_loss + 1e-12:
        why = f"costs {100 * loss:.1f} points of clean accuracy; at most {100 * path.goal.clean_loss:.1f} are tolerated"
        return Tried(stack, measured, False, why, gain, loss)
    if chance >= LEVEL:
        why = f"saves {won} examples that were broken before and loses {lost}, which may be chance (p = {chance:.2g})"
        return Tried(stack, measured, False, why, gain, loss)
    return Tried(stack, measured, True, f"saves {won} examples that were broken before and loses {lost}", gain, loss)


def sampled(
    pool: Pool, protections: Sequence[Part], goal: Aim, examples: int, told: Told, *, trials: int, seed: int
) -> Path:
    """Search stacks and settings with Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011).

    Each defense is in the stack with one of its settings, or absent. The same seed gives the same path.

    Raises:
        MissingPackage: without Optuna. UntestableError: if the undefended system cannot be tested.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingPackage(
            "--trials needs Optuna, which is not installed; pip install 'adversarial-benchmark[harden]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path(goal)
    _note(path, Tried((), pool.measure((), examples), True, "the start"), told)
    settings = {name: list(group) for name, group in groupby(protections, key=lambda part: part.name)}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    seen: dict[tuple[Part, ...], float] = {}
    for _ in range(trials):
        if path.reached:
            break
        trial = study.ask()
        stack = tuple(_drawn(trial.suggest_categorical, settings))
        if stack not in seen:
            step = _step(pool, path, stack, examples) if stack else path.steps[0]
            seen[stack] = _score(step, goal)
            if stack:
                _note(path, step, told)
        study.tell(trial, seen[stack])
    return path


def _drawn(suggest: Callable[[str, list[str]], str], settings: dict[str, list[Part]]) -> Iterator[Part]:
    for name, choices in settings.items():
        labels = [part.label for part in choices]
        label = suggest(name, ["", *labels])
        if label:
            yield choices[labels.index(label)]


def _score(step: Tried, goal: Aim) -> float:
    """Objective: the robust accuracy; negative if clean accuracy falls too far or nothing could be measured."""
    if step.measured is None:
        return -1.0
    return step.measured.robust - (1.0 if step.loss > goal.clean_loss else 0.0)
