"""surrogate: a transfer attacker's own system: one of the store, or several with averaged scores.

Averaging before the softmax is the ensemble in logits of Dong et al. (CVPR 2018, arXiv:1710.06081), with equal weights;
that examples made on several models transfer better is due to Liu, Chen, Liu & Song (ICLR 2017, arXiv:1611.02770).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from benchmark.api import Dataset
from benchmark.config.schema import StoreConfig
from benchmark.config.system_spec import SystemSpec
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, DataError, Refused
from benchmark.records.card import Card
from benchmark.records.store import Store
from benchmark.stages.rebuild import spec_of, stored_system
from benchmark.system import Detector, System
from benchmark.threat import Access, Threat

__all__ = ["fused", "named", "surrogate", "watched"]

KEY = re.compile(r"[0-9a-f]{24}")
LISTED = 5
"""Number of systems that an error lists."""


def named(threat: Threat, attacked: SystemSpec, store: Store, data: StoreConfig, *, needed: Access) -> Threat:
    """Threat with the full keys of its surrogates, sorted, in place of their names or key prefixes.

    Args:
        attacked: the parts of the attacked system. data: where datasets are. needed: access that the attack needs.

    Raises:
        DataError: if a surrogate is not in the store, or its name is ambiguous.
        ConfigError: if one is given twice. Refused: if its inputs or classes are not those of the attacked system, or
            no surrogate gives the access that the attack needs.
    """
    if not threat.surrogate:
        return threat
    cards = [_card(name.strip(), store) for name in threat.surrogates]
    keys = sorted(card.key for card in cards)
    for card in cards:
        if keys.count(card.key) > 1:
            raise ConfigError(f"threat.surrogate is {threat.surrogate!r}, which names {_shown(card)} twice")
        _refuse_another_kind(attacked, card, data)
    _refuse_silent(cards, needed)
    return dataclasses.replace(threat, surrogate=",".join(keys))


def watched(threat: Threat, store: Store) -> list[Path]:
    """Folders whose change may alter the meaning of the surrogates' names; empty for full keys."""
    full = all(KEY.fullmatch(name) for name in threat.surrogates)
    return [] if full else [store.root / "systems"]


def surrogate(threat: Threat, dataset: Dataset, spec: DataSpec, store: Store, data: StoreConfig) -> System:
    """System that a transfer attacker works on.

    Args:
        threat: as returned by :func:`named`. dataset, spec: of the attacked system. data: where datasets are.

    Raises:
        DataError: if a surrogate is not in the store. RecordError: if its weights do not match its card.
    """
    members = []
    for key in threat.surrogates:
        card = _card(key, store)
        theirs = spec_of(card.system, card.seed, card.provenance.get("inputs"))
        known = spec if theirs.dataset == dataset else _data_spec(theirs.dataset, data)
        members.append(stored_system(theirs, card, store, known))
    return members[0] if len(members) == 1 else fused(members)


def fused(members: Sequence[System]) -> System:
    """Ensemble with the mean of the members' scores, which refuses what any member refuses.

    A pass of it counts as a pass of each member.
    """
    detectors = [_Members(member, detector) for member in members for detector in member.detectors]
    made = System(_MeanScores(members), members[0].spec, (), detectors)
    made.randomized = any(member.randomized for member in members)
    made.passes = sum(member.passes for member in members)
    return made


class _MeanScores(nn.Module):
    def __init__(self, members: Sequence[System]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K)."""
        first, *others = self.members
        total: Tensor = first(x)
        for member in others:
            total = total + member(x)
        return total / len(self.members)


class _Members(Detector):
    """Detector of one member, which sees that member instead of the ensemble."""

    def __init__(self, member: System, detector: Detector) -> None:
        super().__init__(detector.defense, detector.threshold, detector.scale)
        self.member = member.protected

    def margin(self, model: nn.Module, x: Tensor) -> Tensor:
        """Rejection margin of the member, positive where it rejects `x`, (B,)."""
        return super().margin(self.member, x)


# --- finding them ---


def _card(name: str, store: Store) -> Card:
    """Card of the system with that key, key prefix or name."""
    exact = store.card(name) if KEY.fullmatch(name) else None
    if exact is not None:
        return exact
    keys = sorted(path.parent.name for path in (store.root / "systems").glob("*/card.json"))
    cards = [card for card in map(store.card, keys) if card is not None]
    found = [card for card in cards if name and card.key.startswith(name)]
    found = found or [card for card in cards if card.system.name == name]
    if len(found) == 1:
        return found[0]
    known = ", ".join(map(_shown, (found or cards)[:LISTED])) + (", ..." if len(found or cards) > LISTED else "")
    if found:
        raise DataError(f"threat.surrogate {name!r} may be {known}; give more of the key")
    raise DataError(
        f"threat.surrogate is {name!r}, and {store.root}/systems has no such system; train it first, and give its "
        f"key, a prefix of it, or its name ({f'there are {known}' if known else 'the store has none yet'})"
    )


def _shown(card: Card) -> str:
    return f"{card.system.name} with seed {card.seed} ({card.key[:8]})"


def _refuse_another_kind(attacked: SystemSpec, card: Card, data: StoreConfig) -> None:
    theirs = spec_of(card.system, card.seed, card.provenance.get("inputs"))
    if theirs.dataset == attacked.dataset:
        return
    mine, spec = _data_spec(attacked.dataset, data), _data_spec(theirs.dataset, data)
    if (spec.shape, spec.classes, spec.class_names) != (mine.shape, mine.classes, mine.class_names):
        raise Refused(
            f"threat.surrogate {_shown(card)} takes inputs {spec.shape} of {spec.classes} classes, but "
            f"{attacked.name} takes {mine.shape} of {mine.classes}: choose a surrogate with the same inputs and "
            "classes"
        )


def _refuse_silent(cards: Sequence[Card], needed: Access) -> None:
    """Refuse surrogates of which none gives the access that the attack needs, such as trees for a gradient attack."""
    told = [spec_of(card.system, card.seed, card.provenance.get("inputs")).model.access for card in cards]
    if any(access.grants(needed) for access in told):
        return
    raise Refused(
        f"the attack needs {needed.value}, but threat.surrogate {_shown(cards[0])} gives only {told[0].value}; choose "
        f"an attack that needs only {told[0].value}, or a surrogate with {needed.value}"
    )


def _data_spec(dataset: Dataset, data: StoreConfig) -> DataSpec:
    """Shape and normalisation of the data that a system was built for."""
    return dataset.load(Path(data.data), offline=data.offline).spec
