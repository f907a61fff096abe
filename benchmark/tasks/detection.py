"""Object detection by one pass over a grid of cells: a class and a box per cell. Redmon et al., CVPR 2016 (YOLO).

The attacker's goals are those of Chow et al., TPS-ISA 2020, arXiv:2004.04320 (TOG): objects vanish, are mislabelled, or
are fabricated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.tasks.boxes import contained, overlaps, suppressed
from benchmark.tasks.task import UNTARGETED, DenseTask

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BACKGROUND", "FABRICATION", "MISLABELING", "VANISHING", "Detection"]

BACKGROUND = 0
"""Class of a cell that contains no object's centre."""
VANISHING, MISLABELING, FABRICATION = "vanishing", "mislabeling", "fabrication"

OVERLAP = 0.5
"""Intersection over union from which a detection matches an object (PASCAL VOC)."""
SAME = 0.45
"""Overlap of two detections above which the lower-scored one is suppressed."""
LEAST_SIDE = 0.25
"""Smallest side of a box, in cells."""
MIDDLE = 2.0
"""Side of a box, in cells, at an offset of 0."""


@dataclass(frozen=True)
class Detection(DenseTask):
    """S = (height / stride) * (width / stride) cells; an object belongs to the cell of its centre. Class 0: background.

    Labels are (B, S, 5) int64: class, then the corners x0, y0, x1, y1 of the box in pixels (0 where there is none). At
    cells in a crowd of class c (MS-COCO) the label is -1 - c, with the crowd's box: they do not count, and a detection
    of which half lies in a crowd is not false. A
    system returns (B, S, K + 4): class scores, then the offsets of the centre from the cell's centre and of the sides
    from two cells, all in cells. An example is wrong if, by the goal, some object has no detection of an overlap of 0.5
    (`vanishing`), its most confident detection has another class (`mislabeling`), some detection matches no object
    (`fabrication`), or any of these (`untargeted`).

    height, width: of the images. stride: side of a cell; all in pixels. objects: number of object classes.
    """

    name: ClassVar[str] = "detection"
    goals: ClassVar[frozenset[str] | None] = frozenset({UNTARGETED, VANISHING, MISLABELING, FABRICATION})

    height: int = 24
    width: int = 24
    stride: int = 4
    objects: int = 10

    def sites(self, shape: tuple[int, ...]) -> int:
        """Number of cells."""
        return (self.height // self.stride) * (self.width // self.stride)

    def least_label(self, classes: int) -> int:
        """-1 - c, the label of a crowd of the last class c."""
        return -classes

    def columns(self, classes: int) -> int:
        """Number of class scores plus the four values of the box."""
        return classes + 4

    def scores(self, output: Tensor) -> Tensor:
        """Class scores without the box, (B, S, K)."""
        return output[..., :-4]

    def cells(self, like: Tensor) -> Tensor:
        """Centre of each cell in pixels, (S, 2): x, then y."""
        import torch

        down = torch.arange(self.height // self.stride, device=like.device, dtype=like.dtype)
        across = torch.arange(self.width // self.stride, device=like.device, dtype=like.dtype)
        rows, columns = torch.meshgrid(down, across, indexing="ij")
        return (torch.stack([columns, rows], 2).flatten(0, 1) + 0.5) * self.stride

    def boxes(self, output: Tensor) -> Tensor:
        """Corners of the boxes in a system's output, (B, S, 4) in pixels."""
        import torch

        offset, size = output[..., -4:-2], (output[..., -2:] + MIDDLE).clamp_min(LEAST_SIDE)
        middle = self.cells(output) + offset * self.stride
        half = size * (self.stride / 2.0)
        return torch.cat([middle - half, middle + half], 2)

    def read(self, output: Tensor) -> Tensor:
        """Detections after suppression, (B, S, 6) float32: class (0 for none), score, corners."""
        import torch

        share = self.scores(output).softmax(2)
        sure, label = share.max(2)
        boxes = self.boxes(output)
        dropped = suppressed(boxes, torch.where(label == BACKGROUND, 0.0, sure), SAME)
        label = torch.where(dropped, BACKGROUND, label)
        return torch.cat([label[..., None].to(sure.dtype), sure[..., None], boxes], 2).float()

    def errors(self, reading: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Missed objects, mislabelled objects and false detections at their cells, (B, S) bool each."""
        import torch

        object_, found = y[..., 0] > BACKGROUND, reading[..., 0] > BACKGROUND
        near = overlaps(y[..., 1:].to(reading.dtype), reading[..., 2:]) >= OVERLAP
        near = near & object_[:, :, None] & found[:, None, :]
        crowd = y[..., 0] < BACKGROUND
        among = contained(y[..., 1:].to(reading.dtype), reading[..., 2:]) >= OVERLAP if bool(crowd.any()) else near
        excused = near.any(1) | (among & crowd[:, :, None]).any(1)
        seen = near.any(2)
        best = torch.where(near, reading[:, None, :, 1], -1.0).argmax(2)
        named = reading[..., 0].gather(1, best) == y[..., 0]
        return object_ & ~seen, seen & ~named, found & ~excused

    def wrong(self, reading: Tensor, y: Tensor) -> Tensor:
        """True if there is an error of the goal's kind, (B,) bool."""
        gone, misnamed, made_up = (error.any(1) for error in self.errors(reading, y))
        kinds = {VANISHING: gone, MISLABELING: misnamed, FABRICATION: made_up}
        return kinds.get(self.goal, gone | misnamed | made_up)

    def score(self, reading: Tensor, y: Tensor) -> Tensor:
        """Fraction of the objects that are found with the correct class, (B,) float32."""
        gone, misnamed, _ = self.errors(reading, y)
        objects = (y[..., 0] > BACKGROUND).sum(1)
        lost = (gone | misnamed).sum(1) / objects.clamp_min(1)
        return 1.0 - lost.float()

    def aim(self, y: Tensor) -> tuple[Tensor, bool]:
        """Labels for an attack by the goal: background at objects, the next class at objects, or the true labels."""
        import torch

        label = y[..., 0]
        object_ = label > BACKGROUND
        if self.goal == VANISHING:
            return torch.where(self.covered(y), BACKGROUND, -1), True
        if self.goal == MISLABELING:
            return torch.where(object_, label % self.objects + 1, -1), True
        if self.goal == FABRICATION:
            return torch.where(object_, -1, label), False
        return label, False

    def covered(self, y: Tensor) -> Tensor:
        """True at cells whose centre lies in the box of an object and which may therefore detect it, (B, S) bool."""
        boxes, middle = y[:, :, None, 1:], self.cells(y[..., 1:].float())
        inside = ((middle >= boxes[..., :2]) & (middle < boxes[..., 2:])).all(3)
        return (inside & (y[..., 0] > BACKGROUND)[:, :, None]).any(1)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Sum of the mean cross-entropies over object cells and other cells, and the mean box error at objects.

        All three have equal weight, since objects are few. Boxes: absolute errors of the corners, in cells.
        """
        import torch.nn.functional as F

        label, object_ = y[..., 0], y[..., 0] > BACKGROUND
        scores = self.scores(output).flatten(0, 1)
        named = F.cross_entropy(scores, label.flatten().clamp_min(-1), ignore_index=-1, reduction="none")
        named = named.reshape(label.shape)
        far = (self.boxes(output) - y[..., 1:].to(output.dtype)).abs().mean(2) / self.stride
        empty = label == BACKGROUND
        at_objects = ((named + far) * object_).sum() / object_.sum().clamp_min(1)
        return at_objects + (named * empty).sum() / empty.sum().clamp_min(1)
