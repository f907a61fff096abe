"""Measurement of one stack of defenses: a cell per attack, joined example by example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.config.cell import RunConfig
from benchmark.config.overrides import sentence
from benchmark.config.resolve import resolve
from benchmark.config.source import PluginSource, register_schemas
from benchmark.errors import BenchmarkError, ConfigError
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.run import run

if TYPE_CHECKING:
    from benchmark.hardening.parts import Part

__all__ = ["Measured", "Pool", "UntestableError"]

Bools = NDArray[np.bool_]


class UntestableError(BenchmarkError):
    """A stack that cannot be tested: its parts do not fit together, or a cell failed."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Results of a stack under every attack of the pool.

    clean, held: (N,) bool, correct without an attack, and under every attack. by: held, for each attack alone. records:
    of the cells, in the order of the attacks. training_seconds: of the system.
    """

    clean: Bools
    held: Bools
    by: Mapping[str, Bools]
    records: tuple[Record, ...]
    training_seconds: float

    @property
    def robust(self) -> float:
        """Fraction of examples that stay correct under every attack."""
        return float(self.held.mean())

    @property
    def accuracy(self) -> float:
        """Fraction of examples that are correct without an attack."""
        return float(self.clean.mean())

    @property
    def strongest(self) -> str:
        """Attack that leaves the fewest examples correct."""
        return min(self.by, key=lambda name: (int(self.by[name].sum()), name))


class Pool:
    """Runs the cells of stacks; cells in the store are not computed again.

    overrides: of every run, as for `benchmark run`, with model, data, threat and seed. attacks: the pool.
    own: folders of the user's configurations.
    """

    def __init__(self, overrides: Sequence[str], attacks: Sequence[Part], own: Sequence[Path] = ()) -> None:
        taken = [word for word in overrides if word.partition("=")[0].lstrip("+~") in ("attack", "examples")]
        if taken:
            raise ConfigError(
                f"{taken[0]} is set by harden; give attacks with --attack, the number of examples with --examples"
            )
        self.overrides, self.attacks, self.own = list(overrides), list(attacks), list(own)
        register_schemas(PluginSource)

    def config(self, stack: Sequence[Part], attack: Part, examples: int) -> RunConfig:
        """Configuration of a cell.

        Raises:
            ConfigError: if it cannot be composed.
        """
        from hydra import compose, initialize_config_module
        from hydra.core.global_hydra import GlobalHydra
        from hydra.errors import HydraException

        names = ",".join(part.name for part in stack)
        overrides = [*self.overrides, f"defense=[{names}]", *(word for part in stack for word in part.overrides)]
        overrides += [f"attack={attack.name}", *attack.overrides, f"examples={examples}", "tracker=[]"]
        folders = [f"hydra.searchpath=[{','.join(repr(str(folder)) for folder in self.own)}]"] if self.own else []
        GlobalHydra.instance().clear()
        try:
            with initialize_config_module("benchmark.conf", version_base="1.3"):
                return resolve(compose("run", [*overrides, *folders]), overrides=tuple(overrides), own=self.own)
        except HydraException as error:
            raise ConfigError(sentence(error)) from error

    def measure(self, stack: Sequence[Part], examples: int) -> Measured:
        """Attack a stack with every attack of the pool, on the first `examples` test examples.

        Raises:
            UntestableError: with the error of the first cell that is not complete, or has a finding that invalidates
            it.
        """
        records, by = [], {}
        for attack in self.attacks:
            config = self.config(stack, attack, examples)
            result = run(config)
            store = Store(Path(config.store.root))
            record = store.record(result.key) if result.key else None
            if result.status != "complete" or record is None:
                raise UntestableError(f"{attack.label}: {result.status}: {result.error}")
            void = next((finding for finding in record.findings if finding.severity == "error"), None)
            if void is not None:
                raise UntestableError(f"{attack.label}: {void.name}: {void.evidence}")
            outcomes = Outcomes.load(store.cell(record.key) / OUTCOMES)
            by[attack.label] = outcomes.robust.numpy()
            records.append(record)
        card = store.card(records[0].system.key)
        seconds = card.seconds if card is not None else 0.0
        held = np.logical_and.reduce(list(by.values()))
        return Measured(outcomes.clean_correct.numpy(), held, by, tuple(records), seconds)
