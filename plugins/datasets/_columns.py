"""Columns of a table as features in [0, 1]: numbers scaled by their range, categories one-hot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.api import DataError, FeatureRules

Column = list[str] | list[float]


def read(file: Path, delimiter: str, header: bool) -> dict[str, Column]:
    """Read the columns of an .arff file or of separated values by name; without a header c0, c1, ...

    Raises:
        DataError: if it cannot be read, or its lines differ in length.
    """
    if file.suffix == ".arff":
        return _arff(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            given = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
            rows = [[cell.strip() for cell in row] for row in given if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read ({error}); expected values separated by {delimiter!r}") from error
    if delimiter == " ":
        rows = [[cell for cell in row if cell] for row in rows]
    names = rows.pop(0) if header and rows else [f"c{at}" for at in range(len(rows[0]) if rows else 0)]
    odd = next((at for at, row in enumerate(rows) if len(row) != len(names)), None)
    if not rows or odd is not None or len(set(names)) < len(names) or len(names) < 2:
        what = (
            "no rows"
            if not rows
            else f"{len(rows[odd])} values in row {odd}"
            if odd is not None
            else "a single column"
            if len(names) < 2
            else "a name twice"
        )
        raise DataError(
            f"{file} has {what}; expected {max(2, len(names))} values in each row, separated by {delimiter!r} "
            "(dataset.delimiter), and a first line of different names (dataset.header=false if there is none)"
        )
    return {name: _numbers(list(column)) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _numbers(column: list[str]) -> Column:
    try:
        return [float(value) for value in column]
    except ValueError:
        return column


def _arff(file: Path) -> dict[str, Column]:
    from scipy.io import arff

    try:
        values, about = arff.loadarff(file)
    except (OSError, ValueError, NotImplementedError, StopIteration) as error:
        raise DataError(
            f"{file} cannot be read ({error}); expected an ARFF file of numbers and nominal values"
        ) from error
    kinds = dict(zip(about.names(), about.types(), strict=True))
    nominal = {name: [cell.decode() for cell in values[name]] for name in kinds if kinds[name] == "nominal"}
    return {name: nominal.get(name) or [float(v) for v in values[name]] for name in kinds}


@dataclass(frozen=True)
class Treated:
    """Treatment of columns, by name. ranges: lowest and highest value, in the units of the file."""

    integer: frozenset[str]
    categorical: frozenset[str]
    fixed: frozenset[str]
    rising: frozenset[str]
    falling: frozenset[str]
    ranges: dict[str, tuple[float, float]]


def features(columns: dict[str, Column], treated: Treated, train: Tensor) -> tuple[Tensor, FeatureRules]:
    """Features (N, D) float32 in [0, 1], and their rules.

    Numbers are scaled by their range, or by the smallest and largest value of the rows `train` (int64) and clipped.
    """
    parts: list[Tensor] = []
    names: list[str] = []  # of the features
    values: list[int] = []
    groups: list[tuple[int, ...]] = []
    owners: list[str] = []
    for name, column in columns.items():
        if name in treated.categorical or isinstance(column[0], str):
            if name in treated.rising | treated.falling:
                raise DataError(
                    f"column {name!r} is a category, which cannot be rising or falling; declare it immutable instead"
                )
            part, kinds = _one_hot(column)
            groups.append(tuple(range(len(names), len(names) + len(kinds))))
            names += [f"{name}={kind}" for kind in kinds]
            values += [0] * len(kinds)
        else:
            part, count = _scaled(name, column, treated, train)
            names.append(name)
            values.append(count)
        owners += [name] * (len(names) - len(owners))
        parts.append(part)
    one = tuple(1.0 for _ in names)
    rules = FeatureRules(
        fixed=tuple(name in treated.fixed for name in owners),
        rising=tuple(name in treated.rising for name in owners),
        falling=tuple(name in treated.falling for name in owners),
        low=tuple(0.0 for _ in names),
        high=one,
        values=tuple(values),
        groups=tuple(groups),
    )
    return torch.cat(parts, 1), rules


def _one_hot(column: Column) -> tuple[Tensor, list[str]]:
    kinds = ordered(column)
    place = torch.tensor([kinds.index(_word(value)) for value in column])
    return torch.nn.functional.one_hot(place, len(kinds)).float(), kinds


def ordered(column: Column) -> list[str]:
    """Distinct values of a column, numbers in numerical order."""
    return [_word(value) for value in sorted(set(column))]  # type: ignore[type-var]


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scaled(name: str, column: Sequence[object], treated: Treated, train: Tensor) -> tuple[Tensor, int]:
    """Scaled values (N, 1) float32, and their number: that of the whole numbers in the range, 0 for real numbers."""
    numbers = torch.from_numpy(np.asarray(column, dtype=np.float64))
    if not bool(torch.isfinite(numbers).all()):
        missing = int((~torch.isfinite(numbers)).sum())
        raise DataError(f"column {name!r} lacks {missing} of {len(numbers)} values; drop it, or fill them in")
    low, high = treated.ranges.get(name) or (float(numbers[train].min()), float(numbers[train].max()))
    width = high - low if high > low else 1.0
    if name not in treated.integer:
        return ((numbers - low) / width).clamp(0.0, 1.0).float()[:, None], 0
    if bool((numbers != numbers.round()).any()) or low != round(low) or high != round(high):
        raise DataError(f"column {name!r} is in dataset.integer but has values that are not whole numbers")
    place = (numbers - low).clamp(0.0, width)
    return (place.float() / width)[:, None], int(width) + 1
