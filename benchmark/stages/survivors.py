"""survivors: examples of a system that earlier cells under the same threat did not break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.errors import ConfigError, RecordError, Unproved
from benchmark.records.durable import file_sha256
from benchmark.records.earlier import misfit
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.record import Record, read_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmark.records.store import Store

__all__ = ["Survivors", "broken_before", "earlier_outcomes", "survivors_of"]


@dataclass(frozen=True)
class Survivors:
    """Survivors of earlier cells. ids: (M,) int64, the examples that these broke. left: number of survivors."""

    ids: Tensor
    left: int

    def broken(self, ids: Tensor) -> Tensor:
        """Examples of these ids (B,) that are broken already, (B,) bool."""
        return torch.isin(ids, self.ids.to(ids.device))


def survivors_of(record: Record, store: Store) -> Survivors:
    """Survivors of the earlier cells of a record.

    Args:
        record: of the cell before anything is computed.

    Raises:
        ConfigError: if an earlier cell is not in the store, or does not match.
    """
    try:
        before = [_outcomes(record, key, [store.cell(key)]) for key in record.survivors_of]
    except (RecordError, Unproved) as error:
        raise ConfigError(f"survivors_of: {error}") from error
    return Survivors(broken_before(before), int((before[0].clean_correct & ~_any_broken(before)).sum()))


def earlier_outcomes(record: Record, folders: Sequence[Path]) -> list[Outcomes]:
    """Outcomes of the earlier cells of a record.

    Args:
        folders: of cells, to search in order.

    Raises:
        RecordError: if a cell is broken, or does not match. Unproved: if one is in none of the folders.
    """
    return [_outcomes(record, key, [folder / key for folder in folders]) for key in record.survivors_of]


def _outcomes(record: Record, key: str, places: Sequence[Path]) -> Outcomes:
    """Outcomes of an earlier cell, from the first of the folders that has it."""
    folder = next((place for place in places if (place / "record.json").is_file()), None)
    if folder is None:
        raise Unproved(f"the cell {key}, on whose survivors the attack was run, is not here; give its store")
    earlier = read_record(folder)
    wrong = misfit(record, earlier)
    if wrong:
        raise RecordError(wrong)
    path = folder / OUTCOMES
    named = {file.path: file.sha256 for file in earlier.files}
    if not path.is_file() or file_sha256(path) != named.get(OUTCOMES):
        raise RecordError(
            f"the {OUTCOMES} of the cell {key} is missing or broken; run benchmark store check for details"
        )
    return Outcomes.load(path)


def broken_before(outcomes: Sequence[Outcomes]) -> Tensor:
    """Ids of the examples broken by any of several cells with the same examples, (M,) int64."""
    return outcomes[0].ids[_any_broken(outcomes)]


def _any_broken(outcomes: Sequence[Outcomes]) -> Tensor:
    return torch.stack([of.broken for of in outcomes]).any(0)
