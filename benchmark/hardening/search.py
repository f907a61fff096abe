"""The search: protections one after the other, each kept if an attacker who knows it finds it an improvement."""

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
"""The level of the test by which a gain is told from chance."""


@dataclass(frozen=True)
class Aim:
    """robust: the share to reach. clean_loss: the share of clean accuracy that may be lost for it in all."""

    robust: float
    clean_loss: float = 0.05


@dataclass(frozen=True)
class Tried:
    """One stack that was tried. measured: None where it could not be tested. kept: whether the search went on from it.

    gain, loss: of robust and of clean accuracy, against the stack before and against no protection.
    """

    stack: tuple[Part, ...]
    measured: Measured | None
    kept: bool
    why: str
    gain: float = 0.0
    loss: float = 0.0

    @property
    def label(self) -> str:
        """The stack in words."""
        return " + ".join(part.label for part in self.stack) or "no protection"


@dataclass
class Path:
    """All that was tried, in order. best: the last step that was kept."""

    goal: Aim
    steps: list[Tried] = field(default_factory=list)

    @property
    def best(self) -> Tried:
        """The last step that was kept."""
        return next(step for step in reversed(self.steps) if step.kept)

    @property
    def reached(self) -> bool:
        """True if the best stack reaches the goal on the examples of the search."""
        measured = self.best.measured
        return measured is not None and measured.robust >= self.goal.robust


Told = Callable[[Tried], None]


def one_by_one(pool: Pool, protections: Sequence[Part], goal: Aim, examples: int, told: Told) -> Path:
    """Add one protection after the other to the stack, in the order given, until the goal is reached.

    Of several settings of one protection the best is taken. A protection stays if it raises the robust accuracy by a
    paired one-sided test (McNemar, 1947), and clean accuracy does not fall below that of no protection by more than is
    accepted.

    Args:
        told: called after each step.

    Raises:
        UntestableError: if the system without protection cannot be tested.
    """
    path = Path(goal)
    _note(path, Tried((), pool.measure((), examples), True, "where it begins"), told)
    for _, group in groupby(protections, key=lambda part: part.name):
        if path.reached:
            break
        tried = [_step(pool, path, (*path.best.stack, part), examples) for part in group]
        best = max((s for s in tried if s.kept), key=lambda s: s.measured.robust if s.measured else 0.0, default=None)
        for step in tried:
            beaten = step.kept and step is not best
            _note(path, replace(step, kept=False, why="another setting of it helps more") if beaten else step, told)
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
        why = f"costs {100 * loss:.1f} points of clean accuracy, and {100 * path.goal.clean_loss:.1f} are accepted"
        return Tried(stack, measured, False, why, gain, loss)
    if chance >= LEVEL:
        why = f"holds {won} examples that fell before and loses {lost}, which may be chance (p = {chance:.2g})"
        return Tried(stack, measured, False, why, gain, loss)
    return Tried(stack, measured, True, f"holds {won} examples that fell before and loses {lost}", gain, loss)


def sampled(
    pool: Pool, protections: Sequence[Part], goal: Aim, examples: int, told: Told, *, trials: int, seed: int
) -> Path:
    """Search stacks and settings with Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011).

    Each protection is in the stack with one of its settings, or not. The same seed gives the same path.

    Raises:
        MissingPackage: without Optuna. UntestableError: if the system without protection cannot be tested.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingPackage(
            "--trials needs Optuna, which is not installed; pip install 'adversarial-benchmark[harden]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path(goal)
    _note(path, Tried((), pool.measure((), examples), True, "where it begins"), told)
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
    """Robust accuracy; below any of these where clean accuracy falls too far or nothing could be measured."""
    if step.measured is None:
        return -1.0
    return step.measured.robust - (1.0 if step.loss > goal.clean_loss else 0.0)
