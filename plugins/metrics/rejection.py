"""Robust accuracy of systems that may abstain. Tramer, ICML 2022, arXiv:2107.11630, section 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from benchmark.api import EVERY_TASK, Metric, hookimpl

if TYPE_CHECKING:
    import torchmetrics
    from torch import Tensor

    from benchmark.api import Outcomes

REFUSED = -1


@dataclass(frozen=True)
class Rejection(Metric):
    """Accuracies over all examples that take refusals into account, clean and under attack.

    A clean input is correct only if it is accepted and classified correctly. An attacked input is safe if its clean
    version is correct and it is refused or classified correctly. `robust_accuracy_with_rejection` is the share of safe
    inputs, `robust_accuracy_answered` of those accepted, `robust_by_refusal` of those refused. `clean_refused` is the
    share of clean inputs refused, whatever the label.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    def build(self) -> torchmetrics.Metric:
        """Five rates, with Wilson intervals."""
        from ._rates import Rate, Rates

        return Rates(
            Rate("clean_accuracy_with_rejection", lambda o: _of_all(o.clean_label == o.y), True),
            Rate("clean_refused", lambda o: _of_all(o.clean_label == REFUSED), False),
            Rate("robust_accuracy_with_rejection", lambda o: _of_all(safe(o)), True),
            Rate("robust_accuracy_answered", lambda o: _of_all(safe(o) & (o.adv_label == o.y)), True),
            Rate("robust_by_refusal", lambda o: _of_all(safe(o) & (o.adv_label == REFUSED)), None),
        )


def safe(outcomes: Outcomes) -> Tensor:
    """Examples accepted and correct clean, and refused or correct under a valid attack, (N,) bool."""
    kept = (outcomes.adv_label == REFUSED) | (outcomes.adv_label == outcomes.y)
    return outcomes.clean_correct & outcomes.valid & ~outcomes.broken & kept


def _of_all(hit: Tensor) -> tuple[Tensor, Tensor]:
    return hit, torch.ones_like(hit)


@hookimpl
def benchmark_component() -> type[Metric]:
    """Registers the metric."""
    return Rejection
