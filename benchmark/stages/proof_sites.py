"""Answers per site (pixels, cells) of a record, proved against the system's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.errors import RecordError

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.records.outcomes import Outcomes
    from benchmark.stages.judge import Answer
    from benchmark.tasks.task import Task

__all__ = ["check_agreement", "check_same", "close_rows"]

SITE_ROUNDING = 1e-3
"""Difference of a score or a corner that rounding may cause, absolute and relative."""


def check_agreement(task: Task, outcomes: Outcomes, goal: str) -> None:
    """The labels of the examples follow from the answers per site; arrays of sites are there for such tasks only.

    Raises:
        RecordError: if they do not.
    """
    from benchmark.tasks.task import DenseTask

    if not isinstance(task, DenseTask):
        if outcomes.sites is not None:
            raise RecordError("the outcomes have answers per site, and an example of the dataset has one label")
        return
    if outcomes.sites is None or outcomes.clean_sites is None or outcomes.adv_sites is None:
        raise RecordError(f"the outcomes have no answers per site, and the dataset is for {task.name}")
    for name, label, sites in (
        ("clean input", outcomes.clean_label, outcomes.clean_sites),
        ("candidate", outcomes.adv_label, outcomes.adv_sites),
    ):
        wrong = task.under(goal).wrong(sites, outcomes.sites.long()) != (label == 0)
        wrong = wrong & (label >= 0)
        if bool(wrong.any()):
            raise RecordError(f"the answers per site to the {name} of example {int(outcomes.ids[wrong][0])} contradict "
                              "its label")  # fmt: skip


def _differs(now: Tensor, said: Tensor) -> Tensor:
    """Sites whose answers differ by more than rounding, (b, S) bool."""
    import torch

    if not now.is_floating_point():
        return now != said
    near = torch.isclose(now, said, rtol=SITE_ROUNDING, atol=SITE_ROUNDING)
    return (now[..., 0] != said[..., 0]) | ~near.all(2)


def check_same(what: str, now: Tensor | None, said: Tensor | None, ids: Tensor) -> None:
    """Answers per site (b, S, ...) are those of the outcomes; None, both, where there are none.

    Raises:
        RecordError: naming the first example where they are not.
    """
    if now is None or said is None:
        return
    wrong = _differs(now, said).any(1)
    if bool(wrong.any()):
        raise RecordError(f"the answers per site to the {what} of example {int(ids[wrong][0])} are not those recorded")


def close_rows(task: Task, answer: Answer, said: Tensor | None, ids: Tensor, share: float) -> Tensor | None:
    """Rows of which some site is answered otherwise by rounding alone, (b,) bool; None where there are no sites.

    share: of the size of the scores by which two may differ.

    Raises:
        RecordError: naming the first example of which a site differs by more.
    """
    if answer.sites is None or said is None:
        return None
    scores = task.scores(answer.logits).double()
    label = (said[..., 0] if said.ndim == 3 else said).long()
    gap = scores.amax(2) - scores.gather(2, label.clamp(0, scores.shape[2] - 1)[..., None]).squeeze(2)
    differs = _differs(answer.sites, said)
    far = differs & (gap > share * (1e-12 + scores.abs().amax(2)))
    if bool(far.any()):
        raise RecordError(f"the system answers sites of the clean example {int(ids[far.any(1)][0])} otherwise than the "
                          "outcomes say")  # fmt: skip
    return differs.any(1)
