"""What happened to each example of a cell: the arrays of `outcomes.safetensors`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["NORMS", "Outcomes", "Witness"]

NORMS = ("l0", "l1", "l2", "linf")


@dataclass(frozen=True)
class Outcomes:
    """Per example, in the order of the example list.

    ids, y: (N,) int64. clean_label, adv_label: (N,) int64, -1 where a detector refused the input.
    clean_correct, clean_top5: (N,) bool, on the clean input.
    attacked: (N,) bool: correct on the clean input, so given to the attack.
    valid: (N,) bool: the candidate was inside the threat (true where nothing was attacked).
    adversarial: (N,) bool: a valid candidate that succeeds, at any distance (for attacks that look for the smallest).
    broken: (N,) bool: adversarial within eps. robust_top5: (N,) bool, of the valid candidate, else of the clean input.
    l0, l1, l2, linf: (N,) float32: distance of the adversarial candidate; infinite where there is none.
    excess: (N,) float32: how far an invalid candidate was beyond the radius; infinite where it was not finite.
    forwards, backwards: (N,) int64: passes the attack used for the example.
    zero_gradient, bad_gradient: (N,) bool: the first gradient was zero, or not finite.
    certified: (N,) float32: certified radius in the threat's norm (0 where nothing was certified).
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

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def robust(self) -> Tensor:
        """(N,) bool: right on the clean input, attacked by a valid candidate, and not broken."""
        return self.clean_correct & self.valid & ~self.broken

    def distances(self, norm: str) -> Tensor:
        """(N,) float32: the distances under the norm of that name."""
        values: Tensor = getattr(self, norm)
        return values

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def join(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """The parts one after the other."""
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(cls)})

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        from safetensors.torch import save_file

        save_file({name: value.cpu().contiguous() for name, value in self.tensors().items()}, str(path))

    @classmethod
    def load(cls, path: Path) -> Outcomes:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        return cls(**load_file(str(path)))


@dataclass(frozen=True)
class Witness:
    """The adversarial examples that prove a cell's broken (and adversarial) rows.

    ids: (M,) int64. x_adv: (M, *S) float32.
    """

    ids: Tensor
    x_adv: Tensor

    @classmethod
    def join(cls, parts: Sequence[Witness]) -> Witness:
        """The parts one after the other."""
        return cls(torch.cat([p.ids for p in parts]), torch.cat([p.x_adv for p in parts]))

    def save(self, path: Path) -> None:
        """Write ids and inputs as safetensors."""
        from safetensors.torch import save_file

        save_file({"ids": self.ids.cpu().contiguous(), "x_adv": self.x_adv.cpu().contiguous()}, str(path))

    @classmethod
    def load(cls, path: Path) -> Witness:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        return cls(**load_file(str(path)))
