"""Risk-coverage curves of clean and attacked inputs as a torchmetrics metric."""

from __future__ import annotations

import math

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Measurement, Outcomes

from ._quantiles import gathered
from ._rates import wilson

__all__ = ["RiskCurves", "expected_errors"]

COVERAGES = (80, 90, 95, 100)
STATES = ("clean_suspicion", "clean_wrong", "attacked_suspicion", "attacked_wrong")


class RiskCurves(torchmetrics.Metric):
    """Suspicion and correctness of all inputs, kept until computation: 10 bytes per example."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in STATES:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, outcomes: Outcomes) -> None:
        """Add a batch of outcomes; nothing if the system has no detector."""
        found = (outcomes.clean_suspicion, outcomes.clean_predicted, outcomes.adv_suspicion, outcomes.adv_predicted)
        clean, answer, adv, adv_answer = found
        if clean is None or answer is None or adv is None or adv_answer is None:
            return
        for name, value in zip(STATES, (clean, answer != outcomes.y, adv, adv_answer != outcomes.y), strict=True):
            getattr(self, name).append(value)

    def compute(self) -> list[Measurement]:
        """Area and risk at each coverage, with Wilson's interval, for clean and attacked inputs."""
        measured = []
        for kind in ("clean", "attacked"):
            suspicion = gathered(getattr(self, f"{kind}_suspicion"))
            errors = expected_errors(suspicion, gathered(getattr(self, f"{kind}_wrong")))
            count = len(errors)
            risks = errors / torch.arange(1, count + 1)
            area = float(risks.mean()) if count else None
            measured.append(Measurement(f"{kind}_risk_area", area, None, None, "fraction", False))
            for percent in COVERAGES:
                answered = math.ceil(count * percent / 100)
                value = float(risks[answered - 1]) if answered else None
                low, high = wilson(0, 0) if value is None else wilson(float(errors[answered - 1]), answered)
                measured.append(Measurement(f"{kind}_risk_at_{percent}", value, low, high, "fraction", False))
        return measured


def expected_errors(suspicion: Tensor, wrong: Tensor) -> Tensor:
    """Expected errors among the k least suspicious inputs, k = 1 ... N, ties in random order, (N,) float64."""
    if len(suspicion) == 0:
        return torch.zeros(0, dtype=torch.float64)
    order = suspicion.argsort(stable=True)
    _, group, sizes = suspicion[order].unique_consecutive(return_inverse=True, return_counts=True)
    errors = torch.zeros(len(sizes), dtype=torch.float64).index_add(0, group, wrong[order].double())
    expected: Tensor = (errors / sizes)[group]
    return expected.cumsum(0)
