"""Selection of the rows to poison, and rows with a trigger and the target label. Gu et al., 2017, section 4."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataError, DataSpec, Examples, Refused, SampleRandom

__all__ = ["aimed", "check_label", "check_rate", "drawn", "image_side", "stamped"]


def check_rate(owner: str, rate: float) -> None:
    """Refuse a share outside [0, 1].

    Raises:
        ConfigError: naming the poison.
    """
    if not 0.0 <= rate <= 1.0:
        raise ConfigError(f"{owner}.rate is {rate}; expected a share of the training rows between 0 and 1")


def check_label(owner: str, spec: DataSpec, **labels: int | None) -> None:
    """Refuse labels that the dataset does not have; None means no label.

    Raises:
        ConfigError: naming the setting.
    """
    for name, label in labels.items():
        if label is not None and not 0 <= label < spec.classes:
            raise ConfigError(f"{owner}.{name} is {label}; expected a label between 0 and {spec.classes - 1}")


def image_side(owner: str, spec: DataSpec, least: int = 1) -> None:
    """Refuse examples that are not images of at least `least` pixels a side.

    Raises:
        Refused: naming the poison.
    """
    if not spec.image or min(spec.shape[1:]) < least:
        raise Refused(
            f"{owner} marks images (C, H, W) of {least} pixels a side or more, but the examples have shape "
            f"{spec.shape}; choose a dataset of such images, or poison=label_flip"
        )


def drawn(rng: SampleRandom, eligible: Tensor, rate: float, owner: str, which: str = "rows") -> Tensor:
    """Positions of M random rows among the `eligible` (N,) bool, M = int(rate * N), (M,) int64, ascending.

    Raises:
        DataError: if fewer rows are eligible, described by `which`.
    """
    count, places = int(rate * len(eligible)), eligible.nonzero().flatten()
    if count > len(places):
        raise DataError(
            f"{owner}.rate requires {count} of {len(eligible)} training rows, but only {len(places)} are {which}; "
            f"choose a rate of at most {len(places) / max(1, len(eligible)):.4g}"
        )
    order = rng.uniform(stream="rows").index_select(0, places).argsort(stable=True)
    return places[order[:count]].sort().values


def stamped(train: Examples, positions: Tensor, target: int, trigger: Callable[[Tensor], Tensor]) -> Examples:
    """The examples with the trigger and the label `target` at `positions` (M,)."""
    if not len(positions):
        return train
    return train.changed(positions, x=trigger(train.x(positions)), y=torch.full_like(positions, target))


def aimed(y: Tensor, target: int) -> Tensor:
    """Target label where `y` (B,) differs from `target`, -1 elsewhere, (B,) int64."""
    return torch.where(y == target, -1, target)
