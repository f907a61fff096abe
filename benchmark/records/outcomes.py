"""The outcome of each example of a cell: the arrays of `outcomes.safetensors`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.threat import Norm

__all__ = ["GALLERY", "NORMS", "OUTCOMES", "SITES", "WITNESS", "Outcomes"]

NORMS = tuple(sorted(norm.value for norm in Norm))
"""Names of the norms, each with a column of distances."""

SITES = ("sites", "clean_sites", "adv_sites")
"""Columns of examples with several sites."""

OUTCOMES = "outcomes.safetensors"
WITNESS = "witness.safetensors"
GALLERY = "gallery.safetensors"


@dataclass(frozen=True)
class Outcomes:
    """Per example, in the order of the example list.

    ids, y: (N,) int64. clean_label, adv_label: (N,) int64, -1 where a detector refused the input, -2 where the system
    returned a non-finite score.
    clean_correct, clean_top5: (N,) bool, on the clean input; under the goal top5 both are the top-5 result.
    attacked: (N,) bool: correct on the clean input, and so given to the attack.
    valid: (N,) bool: the candidate was inside the threat (true where nothing was attacked, except spared examples).
    adversarial: (N,) bool: a valid candidate succeeds, at any distance (for minimal attacks).
    broken: (N,) bool: adversarial within eps. robust_top5: (N,) bool, of the valid candidate, else of the clean input.
    l0, l1, l2, linf: (N,) float32: distance of the adversarial candidate; infinite where there is none.
    excess: (N,) float32: how far an invalid candidate was beyond the radius; infinite where it was not finite.
    forwards, backwards: (N,) int64: passes the attack used for the example.
    zero_gradient, bad_gradient: (N,) bool: the first gradient was zero, or not finite.
    certified: (N,) float32: certified radius in the threat's norm (0 where nothing was certified).
    confidence: (N,) float32, the largest softmax probability, on the valid candidate, else on the clean input. None if
    not measured.
    clean_predicted, adv_predicted: (N,) int64, the labels that would hold without refusals.
    clean_suspicion, adv_suspicion: (N,) float32: largest excess of a detector's score over its threshold, in
    standard deviations of its clean scores; an input is refused where it is positive. Of the valid candidate, else of
    the clean input, as `adv_label` is. All four are None where the system has no detector.
    reached: (N, K - 1) bool, under the goal `all` only: whether the labels y + 1, ..., y + K - 1 (modulo K) were
    reached within eps; an example is broken if any was.
    certified_rows: (N,) int64, number of training rows that may be added or removed without changing the correct answer
    (0 where nothing was certified); None without a certifier of training rows.
    triggered, aimed: (N,) int64, only for attacks that apply the trigger of the system's poison: the label predicted
    for each example with the trigger, -1 where refused, also for examples misclassified without it; and the poison's
    target label, -1 where the example is not targeted.
    sites, clean_sites, adv_sites: where an example has several sites (segmentation, detection), their labels
    (N, S, ...) int16, and the predictions on the clean input and on the valid candidate, else on the clean input, as
    the task reads them. Then the label of every example is 1, and a prediction is 1 if it counts as correct, else 0.
    """

    ids: Tensor
    y: Tensor
    clean_label: Tensor
    adv_label: Tensor
    clean_correct: Tensor
    clean_top5: Tensor
    attacked: Tensor
    valid: Tensor
    adversarial: Tensor
    broken: Tensor
    robust_top5: Tensor
    l0: Tensor
    l1: Tensor
    l2: Tensor
    linf: Tensor
    excess: Tensor
    forwards: Tensor
    backwards: Tensor
    zero_gradient: Tensor
    bad_gradient: Tensor
    certified: Tensor
    confidence: Tensor | None = None
    reached: Tensor | None = None
    certified_rows: Tensor | None = None
    triggered: Tensor | None = None
    aimed: Tensor | None = None
    clean_predicted: Tensor | None = None
    adv_predicted: Tensor | None = None
    clean_suspicion: Tensor | None = None
    adv_suspicion: Tensor | None = None
    sites: Tensor | None = None
    clean_sites: Tensor | None = None
    adv_sites: Tensor | None = None

    @classmethod
    def untouched(
        cls,
        ids: Tensor,
        y: Tensor,
        clean_label: Tensor,
        clean_top5: Tensor,
        *,
        right: Tensor | None = None,
        confidence: Tensor | None = None,
        predicted: Tensor | None = None,
        suspicion: Tensor | None = None,
        certified: Tensor | None = None,
        certified_rows: Tensor | None = None,
        triggered: Tensor | None = None,
        aimed: Tensor | None = None,
        goals: int = 1,
        sites: tuple[Tensor, Tensor] | None = None,
    ) -> Outcomes:
        """Outcomes of examples before any attack.

        Args:
            right: (N,) bool, correct on the clean input; None if the label alone decides that.
            predicted, suspicion: of the clean inputs, if the system has detectors.
            goals: number of target labels under the goal `all`; 1 under any other.
            sites: labels of the sites and predictions on the clean input, if an example has several sites.
        """
        count, device = len(y), y.device
        no = torch.zeros(count, dtype=torch.bool, device=device)
        none = torch.zeros(count, dtype=torch.int64, device=device)
        return cls(
            ids=ids,
            y=y,
            clean_label=clean_label,
            adv_label=clean_label.clone(),
            clean_correct=clean_label == y if right is None else right,
            clean_top5=clean_top5,
            attacked=no,
            valid=~no,
            adversarial=no.clone(),
            broken=no.clone(),
            robust_top5=clean_top5.clone(),
            excess=torch.zeros(count, device=device),
            forwards=none,
            backwards=none.clone(),
            zero_gradient=no.clone(),
            bad_gradient=no.clone(),
            certified=torch.zeros(count, device=device) if certified is None else certified,
            confidence=confidence,
            certified_rows=certified_rows,
            triggered=triggered,
            aimed=aimed,
            clean_predicted=predicted,
            adv_predicted=None if predicted is None else predicted.clone(),
            clean_suspicion=suspicion,
            adv_suspicion=None if suspicion is None else suspicion.clone(),
            reached=torch.zeros(count, goals, dtype=torch.bool, device=device) if goals > 1 else None,
            sites=None if sites is None else sites[0],
            clean_sites=None if sites is None else sites[1],
            adv_sites=None if sites is None else sites[1].clone(),
            **{norm: torch.full((count,), torch.inf, device=device) for norm in NORMS},
        )

    def updated(self, rows: Tensor, **values: Tensor | None) -> Outcomes:
        """Copy with new values (b, ...) at `rows` (b,) int64; values of columns that are None are ignored."""
        mine = self.tensors()
        changed = {n: mine[n].index_copy(0, rows, v) for n, v in values.items() if n in mine and v is not None}
        return dataclasses.replace(self, **changed)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def robust(self) -> Tensor:
        """True where correct on the clean input, attacked by a valid candidate, and not broken, (N,) bool."""
        return self.clean_correct & self.valid & ~self.broken

    @property
    def spared(self) -> Tensor:
        """True where the attack skipped an example that other cells had broken, (N,) bool."""
        return ~self.attacked & ~self.valid

    def distances(self, norm: str) -> Tensor:
        """Distances under the norm of that name, (N,) float32."""
        values: Tensor = getattr(self, norm)
        return values

    def tensors(self) -> dict[str, Tensor]:
        """Arrays by name, without missing ones."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def join(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """Concatenate outcomes in the given order."""
        return cls(**{name: torch.cat([p.tensors()[name] for p in parts]) for name in parts[0].tensors()})

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        from safetensors.torch import save_file

        save_file({name: value.cpu().contiguous().clone() for name, value in self.tensors().items()}, str(path))

    @classmethod
    def load(cls, path: Path) -> Outcomes:
        """Read a file written by `save`."""
        from safetensors.torch import load_file

        return cls(**load_file(str(path)))
