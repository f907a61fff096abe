"""A measurement that is no number ends the cell with a sentence that names metric and plugin."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement, Metric
from benchmark.records.columns import COLUMN_TYPES
from benchmark.records.outcomes import Outcomes
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import declared, plugin, small_config


class _Constant(torchmetrics.Metric):
    seen: Tensor

    def __init__(self, said: Measurement) -> None:
        super().__init__()
        self.said = said
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, outcomes: Any) -> None:
        self.seen = self.seen + len(outcomes)

    def compute(self) -> list[Measurement]:
        return [self.said]


@dataclasses.dataclass(frozen=True)
class Odd(Metric):
    """Measures what it is told to."""

    value: str = "nan"
    high: str = "1"

    def build(self) -> torchmetrics.Metric:
        return _Constant(Measurement("odd", float(self.value), None, float(self.high), "", True))


@pytest.mark.parametrize(
    ("metric", "said"), [(Odd(), "as nan"), (Odd("inf"), "as inf"), (Odd("0.5", "inf"), r"as 0\.5 \(None to inf\)")]
)
def test_a_metric_that_is_no_number_is_named(tmp_path: Path, metric: Odd, said: str) -> None:
    with declared(("metric", Odd)):
        model = plugin("model", "nearest_class_mean")
        result = run(
            small_config(tmp_path, examples=8, model=model, attack=plugin("attack", "fgsm"), metrics=(metric,))
        )
    record = Store(tmp_path / "results").record(result.key)
    assert record is not None
    assert (record.status, record.metrics) == ("failed", [])
    assert record.error is not None
    assert record.error.startswith("metric.odd from test-plugins 1.0 measured 'odd' ")
    assert re.search(said, record.error)


def test_every_column_of_the_outcomes_has_a_type() -> None:
    assert set(COLUMN_TYPES) == {field.name for field in dataclasses.fields(Outcomes)}
