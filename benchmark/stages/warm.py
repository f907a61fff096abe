"""Systems that a process keeps warm: the next cell of the same system neither loads nor builds it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.config.cell import RunConfig
from benchmark.config.check import check_goal
from benchmark.hooks.observers import Observers
from benchmark.records.card import Card
from benchmark.records.store import Store
from benchmark.stages.fit import fit
from benchmark.stages.load import Loaded, load_data
from benchmark.system import System

__all__ = ["Fitted", "fit_warm", "forget"]


@dataclass(frozen=True)
class Fitted:
    """Data and the system fitted to them, with its card."""

    loaded: Loaded
    system: System
    card: Card


_WARM: dict[tuple[str, str], Fitted] = {}


def forget(root: Path) -> None:
    """Drop this process's cached systems of a store."""
    for place in [place for place in _WARM if place[0] == str(root.absolute())]:
        del _WARM[place]


def fit_warm(config: RunConfig, store: Store, observers: Observers, sweep: str) -> Fitted:
    """Data and fitted system, cached in this process between consecutive cells."""
    parts, key = config.system_spec, config.system_key()
    place = (str(store.root.absolute()), f"{key} {config.examples}")
    loaded = _WARM[place].loaded if place in _WARM else load_data(config.dataset, config.store, config.examples)
    check_goal(config.threat, loaded.splits.spec)
    config.attack.check(loaded.splits.spec, config.threat)
    for defense in config.defenses:
        defense.check(loaded.splits.spec)
    if place not in _WARM:
        system, card = fit(
            parts,
            loaded,
            store,
            config.trainer,
            observers,
            key=key,
            data=Path(config.store.data),
            sweep=sweep,
            overrides=config.overrides,
        )
        while len(_WARM) >= 2:
            _WARM.pop(next(iter(_WARM)))
        _WARM[place] = Fitted(loaded, system, card)
    return _WARM[place]
