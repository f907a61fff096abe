"""Numbers with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Measured", "Metric", "Rate", "Spread"]


@dataclass(frozen=True)
class Rate:
    """A share of examples with its 95 % Wilson interval.

    count: number of examples; the mean over runs if a row has several, so not always whole. total: out of how many.
    """

    count: float
    total: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """A number over the runs of a row. deviation: sample standard deviation, None for a single run."""

    mean: float
    low: float
    high: float
    deviation: float | None


@dataclass(frozen=True)
class Metric:
    """A plugin's metric as a column. higher_is_better: None if it has no direction."""

    name: str
    unit: str
    higher_is_better: bool | None

    @property
    def order(self) -> tuple[str, str, str]:
        """Sort key of columns."""
        return self.name, self.unit, str(self.higher_is_better)


@dataclass(frozen=True)
class Measured:
    """Value of a metric with its 95 % interval, None where it has none."""

    value: float | None
    low: float | None
    high: float | None
