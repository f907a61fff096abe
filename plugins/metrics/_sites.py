"""Labels and answers of all examples with several sites, as a torchmetrics metric keeps them."""

from __future__ import annotations

from typing import ClassVar

import torch
import torchmetrics
from torch import Tensor

from benchmark.api import Outcomes

__all__ = ["SiteAnswers"]


class SiteAnswers(torchmetrics.Metric):
    """Over all examples with an answer per site. These are kept, so that parts of a cell merge exactly.

    answers: the type in which answers are computed with.
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
        """Add the examples of a part of a cell."""
        if outcomes.sites is None or outcomes.clean_sites is None or outcomes.adv_sites is None or not len(outcomes):
            return
        self.truth.append(outcomes.sites.long())
        self.clean.append(outcomes.clean_sites.to(self.answers))
        self.adv.append(outcomes.adv_sites.to(self.answers))
