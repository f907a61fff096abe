"""Proof of the predictions per site (pixels, cells) of a record against the system's."""

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
"""Absolute and relative rounding tolerance of scores and box corners."""


def check_agreement(task: Task, outcomes: Outcomes, goal: str) -> None:
    """Check that the labels follow from the predictions per site, which exist for such tasks only.

    Raises:
        RecordError: if they do not.
    """
    from benchmark.tasks.task import DenseTask

    if not isinstance(task, DenseTask):
        if outcomes.sites is not None:
            raise RecordError("the outcomes have predictions per site, but an example of the dataset has one label")
        return
    if outcomes.sites is None or outcomes.clean_sites is None or outcomes.adv_sites is None:
        raise RecordError(f"the outcomes have no predictions per site, but the dataset is for {task.name}")
    for name, label, sites in (
        ("clean input", outcomes.clean_label, outcomes.clean_sites),
        ("candidate", outcomes.adv_label, outcomes.adv_sites),
    ):
        wrong = task.under(goal).wrong(sites, outcomes.sites.long()) != (label == 0)
        wrong = wrong & (label >= 0)
        if bool(wrong.any()):
            raise RecordError(f"the predictions per site on the {name} of example {int(outcomes.ids[wrong][0])} "
                              "contradict its label")  # fmt: skip


def _differs(now: Tensor, said: Tensor) -> Tensor:
    """Sites whose predictions differ by more than rounding, (b, S) bool."""
    import torch

    if not now.is_floating_point():
        return now != said
    near = torch.isclose(now, said, rtol=SITE_ROUNDING, atol=SITE_ROUNDING)
    return (now[..., 0] != said[..., 0]) | ~near.all(2)


def check_same(what: str, now: Tensor | None, said: Tensor | None, ids: Tensor) -> None:
    """Check that predictions per site (b, S, ...) are the recorded ones; both are None where there are none.

    Raises:
        RecordError: naming the first example where they are not.
    """
    if now is None or said is None:
        return
    wrong = _differs(now, said).any(1)
    if bool(wrong.any()):
        raise RecordError(
            f"the predictions per site on the {what} of example {int(ids[wrong][0])} are not those recorded"
        )


def close_rows(task: Task, answer: Answer, said: Tensor | None, ids: Tensor, share: float) -> Tensor | None:
    """Rows with a prediction per site that differs by rounding alone, (b,) bool; None where there are no sites.

    share: relative tolerance of the scores.

    Raises:
        RecordError: naming the first example with a site that differs by more.
    """
    if answer.sites is None or said is None:
        return None
    scores = task.scores(answer.logits).double()
    label = (said[..., 0] if said.ndim == 3 else said).long()
    gap = scores.amax(2) - scores.gather(2, label.clamp(0, scores.shape[2] - 1)[..., None]).squeeze(2)
    differs = _differs(answer.sites, said)
    far = differs & (gap > share * (1e-12 + scores.abs().amax(2)))
    if bool(far.any()):
        raise RecordError(f"the system's predictions per site on the clean example {int(ids[far.any(1)][0])} are not "
                          "those in the outcomes")  # fmt: skip
    return differs.any(1)
