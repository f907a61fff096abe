"""Norms, access, goals and regions: the enumerations that a threat is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmark.errors import ConfigError

__all__ = ["Access", "Goal", "Norm", "Region", "RegionKind"]


class Norm(Enum):
    """Norm of a perturbation, over all features of one example."""

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

        A transfer attacker has full access to a surrogate of its own.
        """
        order = (Access.labels, Access.scores, Access.gradients)
        if self is Access.transfer:
            return True
        return needed is not Access.transfer and order.index(needed) <= order.index(self)


class Goal(Enum):
    """The wrong answers that count: any (`untargeted`), or one given label per example.

    next_class: (y + 1) modulo the number of classes. least_likely: the class with the lowest clean score.
    random_class: uniform over the classes other than y. all: every class other than y, in separate attacks
    (Carlini & Wagner, S&P 2017, section VI.A: best, average and worst case).
    top5: any answer without y in the top five; an example then counts as correct if y is in the top five.
    vanishing, mislabeling, fabrication: for an object detector, missed objects, objects with another class, or
    detections without an object; an example then counts as correct if it has no such error.
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
        """True for an object detector's errors."""
        return self in (Goal.vanishing, Goal.mislabeling, Goal.fabrication)


class RegionKind(Enum):
    """Kind of a region."""

    full = "full"
    square = "square"
    border = "border"
    stripes = "stripes"
    random = "random"
    saliency = "saliency"
    art = "art"
    graffiti = "graffiti"
    file = "file"


@dataclass(frozen=True)
class Region:
    """The features that may change; all others must stay identical, bit for bit.

    kind: full; `square`, a centred square of `size` pixels a side; `border`, a frame `size` pixels wide; `stripes`,
        bands of `size` rows, alternately free and fixed, the first one free; `random`, `size` pixels per example;
        `saliency`, the `size` pixels of largest gradient of the true label's score (Simonyan, Vedaldi & Zisserman,
        2014, arXiv:1312.6034, section 3): see :func:`benchmark.stages.settle.salient`; `file`, the mask in `path`. For
        tabular data, features take the place of the pixels and rows of stripes, random and saliency. Two are after the
        camouflage attacks of Eykholt et al. (RP2), CVPR 2018, arXiv:1707.08945, section 4: `art`, four rectangles of
        `size` rows, two side by side in the upper and two in the lower half; `graffiti`, the words LOVE above and HATE
        below, in dots of `size` pixels.
    path: a .npy file, or a .safetensors file with a tensor `mask`, of the shape of one example (or one channel of it),
        non-zero where change is allowed.
    """

    kind: RegionKind = RegionKind.full
    size: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        if self.kind not in (RegionKind.full, RegionKind.file) and self.size < 1:
            raise ConfigError(
                f"threat.region.size is {self.size}; expected at least 1 pixel for region {self.kind.value}"
            )
        if self.kind is RegionKind.file and not self.path:
            raise ConfigError(
                "threat.region.path is empty; expected the path of a mask (.npy or .safetensors) for a file region"
            )

    def __str__(self) -> str:
        if self.kind is RegionKind.full:
            return "full"
        return f"{self.kind.value}:{Path(self.path).name if self.kind is RegionKind.file else self.size}"
