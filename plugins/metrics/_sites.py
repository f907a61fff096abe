"""Labels and answers of all examples with several sites, as a torchmetrics metric."""

from __future__ import annotations

from typing import ClassVar

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Outcomes

__all__ = ["SiteAnswers"]


class SiteAnswers(torchmetrics.Metric):
    """All examples with an answer per site, kept so that parts of a cell merge exactly.

    answers: the type of the stored answers.
    """

    full_state_update = False
    answers: ClassVar[torch.dtype]
    truth: list[Tensor]
    clean: list[Tensor]
    adv: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("truth", "clean", "adv"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, outcomes: Outcomes) -> None:
        """Add a batch of outcomes."""
        if outcomes.sites is None or outcomes.clean_sites is None or outcomes.adv_sites is None or not len(outcomes):
            return
        self.truth.append(outcomes.sites.long())
        self.clean.append(outcomes.clean_sites.to(self.answers))
        self.adv.append(outcomes.adv_sites.to(self.answers))
