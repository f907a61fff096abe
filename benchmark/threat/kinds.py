"""Norms, access, goals and regions: the kinds that a threat is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmark.errors import ConfigError

__all__ = ["Access", "Goal", "Norm", "Region", "RegionKind"]


class Norm(Enum):
    """The distance in which a perturbation is measured, over all features of one example."""

    linf = "linf"
    l2 = "l2"
    l1 = "l1"
    l0 = "l0"


class Access(Enum):
    """The attacker's access to the system."""

    gradients = "gradients"
    scores = "scores"
    labels = "labels"
    transfer = "transfer"

    def grants(self, needed: Access) -> bool:
        """True if an attack that needs `needed` can run under this access.

        A transfer attacker holds a surrogate of its own, with everything in it.
        """
        order = (Access.labels, Access.scores, Access.gradients)
        if self is Access.transfer:
            return True
        return needed is not Access.transfer and order.index(needed) <= order.index(self)


class Goal(Enum):
    """The wrong answer that counts: any (`untargeted`), or one given label per example.

    next_class: (y + 1) modulo the number of classes. least_likely: the class with the lowest clean score.
    random_class: uniform over the classes other than y. all: every class other than y, one attack after the other
    (Carlini & Wagner, S&P 2017, section VI.A: best, average and worst case).
    top5: any answer whose five best labels leave y out; right, too, then means that they have it.
    vanishing, mislabeling, fabrication: of a detector, objects that are not found, that are found under another name,
    or detections where there is no object; right, too, then means that there is no error of that kind.
    """

    untargeted = "untargeted"
    next_class = "next_class"
    least_likely = "least_likely"
    random_class = "random_class"
    all = "all"
    top5 = "top5"
    vanishing = "vanishing"
    mislabeling = "mislabeling"
    fabrication = "fabrication"

    @property
    def names_label(self) -> bool:
        """True if success means one given label."""
        return self in (Goal.next_class, Goal.least_likely, Goal.random_class, Goal.all)

    @property
    def about_objects(self) -> bool:
        """True if it is about a detector's errors."""
        return self in (Goal.vanishing, Goal.mislabeling, Goal.fabrication)


class RegionKind(Enum):
    """The kind of a region."""

    full = "full"
    square = "square"
    border = "border"
    stripes = "stripes"
    random = "random"
    saliency = "saliency"
    file = "file"


@dataclass(frozen=True)
class Region:
    """The features that may change; the others must stay bit for bit.

    kind: full; `square`, a centred square of `size` pixels a side; `border`, a frame `size` pixels wide; `stripes`,
        bands of `size` rows, by turns open and fixed, the first one open; `random`, `size` pixels drawn per example;
        `saliency`, the `size` pixels by which the score of the true label changes most (Simonyan, Vedaldi & Zisserman,
        2014, arXiv:1312.6034, section 3): see :func:`benchmark.stages.settle.salient`; `file`, the mask in `path`. For
        tabular data, features take the place of the pixels and rows of stripes, random and saliency.
    path: a .npy file, or a .safetensors file with a tensor `mask`, of the shape of one example (or one channel of it),
        non-zero where change is allowed.
    """

    kind: RegionKind = RegionKind.full
    size: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        if self.kind not in (RegionKind.full, RegionKind.file) and self.size < 1:
            raise ConfigError(f"threat.region.size is {self.size}; a {self.kind.value} region needs at least 1 pixel")
        if self.kind is RegionKind.file and not self.path:
            raise ConfigError("threat.region.path is empty; a file region needs the path of a .npy mask")

    def __str__(self) -> str:
        if self.kind is RegionKind.full:
            return "full"
        return f"{self.kind.value}:{Path(self.path).name if self.kind is RegionKind.file else self.size}"
