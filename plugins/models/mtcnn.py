"""MTCNN, a cascade of three networks that detects faces. Zhang, Zhang, Li & Qiao, IEEE Signal Processing Letters, 2016.

arXiv:1604.02878, section II. P-Net proposes candidates at several sizes of the image, R-Net and O-Net reject most of
them, and each network corrects the boxes that it accepts. The published weights are in the wheel of facenet-pytorch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Classification, ConfigError, DataSpec, Detection, Model, Refused, hookimpl
from benchmark.tasks.boxes import suppressed
from benchmark.tasks.detection import MIDDLE

from .._warp import sampled
from ._mtcnn import ONET, PNET, RNET, OutputNetwork, ProposalNetwork, Published, RefinementNetwork, read_weights
from ._normalize import image_shape

FACTOR = 0.709
"""Ratio of the sides of consecutive images of the pyramid: half the area."""

STRIDE = 2
"""Distance of two positions of P-Net in pixels."""

OVERLAP = 0.7
"""Overlap above which the lower-scored of two candidates is left out."""

NEVER = -20.0
"""Logit of what is no candidate."""


@dataclass(frozen=True)
class MTCNN(Model):
    """The cascade with its published thresholds, 0.6, 0.7 and 0.7; label 1 is a face. It is not trained here.

    Classification: a patch is a face if all three networks accept it, each at its own size (area interpolation). The
    logits are 0 and the smallest margin of the three above its threshold.

    Detection: the whole cascade in one pass, per scene. A candidate's score is the smallest of its three margins; it
    answers in the cell of its final centre, and suppression is the task's. Gradients flow through the scores, not
    through the positions of boxes. Differences from the published code: only local maxima of P-Net's scores propose, in
    place of suppression within a size; `candidates` go on to R-Net, whatever their score, so that attacks have a
    gradient; R-Net's candidates are not suppressed again; crops are bilinear and repeat the edge of the image; there
    are no landmarks. In a cell without a candidate the score is log sigmoid of P-Net's largest margin there, which is
    never accepted.

    weights: the wheel of facenet-pytorch (`pip download --no-deps facenet-pytorch`). least_face: side of the smallest
    face in pixels. candidates: number of P-Net's proposals per scene that R-Net and O-Net see.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({Classification.name, Detection.name})

    weights: str = ""
    least_face: float = 20.0
    candidates: int = 8

    def __post_init__(self) -> None:
        if not self.least_face >= PNET.side or self.candidates < 1:
            raise ConfigError(
                f"model.least_face is {self.least_face} and model.candidates is {self.candidates}; expected at least "
                f"{PNET.side} pixels and 1 candidate"
            )

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, C, H, W) to (B, 2), or to (B, S, 6) for detection."""
        channels, height, width = image_shape(spec, "mtcnn", PNET.side)
        if spec.classes != 2:
            raise Refused(
                f"model.mtcnn tells faces from others, and the dataset has {spec.classes} classes; choose "
                "dataset=faces or dataset=faces_scenes"
            )
        if not isinstance(spec.task, Detection):
            return Acceptance(channels)
        if min(height, width) < self.least_face:
            raise Refused(
                f"model.mtcnn looks for faces of at least {self.least_face:g} pixels, and the images have "
                f"{height}x{width}; set model.least_face to at most {min(height, width)}"
            )
        return Cascade(channels, spec.task, self.least_face, self.candidates)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """The published weights of all three networks, for three channels.

        Raises:
            Refused: for other channels. DataError: if the file is missing, or its weights have another checksum.
        """
        if not self.weights:
            return None
        if spec.shape[0] != 3:
            raise Refused(
                f"the weights of model.mtcnn are for images of 3 channels, but the dataset has {spec.shape[0]}; choose "
                "dataset=faces or dataset=faces_scenes"
            )
        boxes = isinstance(spec.task, Detection)
        found: dict[str, Tensor] = {}
        for network in (PNET, RNET, ONET):
            state = read_weights(network, Path(self.weights))
            kept = {name: value for name, value in state.items() if boxes or not name.startswith(network.boxes)}
            found |= {f"{network.name}.{name}": value for name, value in kept.items()}
        return found

    def files(self) -> tuple[Path, ...]:
        """The wheel."""
        return (Path(self.weights),) if self.weights else ()


class Acceptance(nn.Module):
    """Is a patch a face to all three networks? boxes: with layers of box regression."""

    def __init__(self, channels: int, *, boxes: bool = False) -> None:
        super().__init__()
        self.pnet = ProposalNetwork(channels, 2, boxes=boxes)
        self.rnet = RefinementNetwork(channels, 2, RNET.side, RNET.side, boxes=boxes)
        self.onet = OutputNetwork(channels, 2, ONET.side, ONET.side, boxes=boxes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to logits (B, 2)."""
        stages = ((PNET, self.pnet), (RNET, self.rnet), (ONET, self.onet))
        margins = [above(network, stage(_resized(x, network.side, network.side))) for network, stage in stages]
        return _against_zero(torch.stack(margins).amin(0))


class Cascade(Acceptance):
    """Detector of :class:`MTCNN`. Candidates are rows of boxes (B, n, 4) of corners x0, y0, x1, y1 in pixels."""

    def __init__(self, channels: int, task: Detection, least_face: float, candidates: int) -> None:
        super().__init__(channels, boxes=True)
        self.task, self.candidates = task, candidates
        self.scales, scale = [], PNET.side / least_face
        while scale * min(task.height, task.width) >= PNET.side:
            self.scales.append(scale)
            scale *= FACTOR

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to (B, S, 6)."""
        proposed, margin, peak = self.proposals(x)
        evidence = F.logsigmoid(_largest(margin, self._cells(proposed)))
        margin = torch.where(peak, margin, NEVER)
        chosen = self._best(proposed, margin.detach())
        boxes, score = proposed.gather(1, chosen[..., None].expand(-1, -1, 4)), margin.gather(1, chosen)
        for network, stage in ((RNET, self.rnet), (ONET, self.onet)):
            boxes = _square(boxes)
            logits, change = stage.both(crops(x, boxes.detach(), network.side))
            assert change is not None
            score = torch.minimum(score, above(network, logits).reshape(score.shape))
            sides = boxes[..., 2:] - boxes[..., :2] + 1.0
            boxes = boxes + change.reshape(boxes.shape) * torch.cat([sides, sides], 2)
        return self._answers(boxes, score, evidence)

    def proposals(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, n, 4) and margins (B, n) of P-Net at every position and size; True at local maxima, (B, n)."""
        boxes, margins, peaks = [], [], []
        for scale in self.scales:
            size = [int(side * scale + 1) for side in x.shape[2:]]
            logits, change = self.pnet.both(_resized(x, *size))
            assert change is not None
            margin = above(PNET, logits)
            peaks.append(margin >= F.max_pool2d(margin.detach()[:, None], 3, 1, 1)[:, 0])
            rows, columns = (torch.arange(n, dtype=x.dtype, device=x.device) * STRIDE for n in margin.shape[1:])
            top, left = torch.meshgrid(rows, columns, indexing="ij")
            corners = torch.stack([left + 1.0, top + 1.0, left + PNET.side, top + PNET.side], 2) / scale
            boxes.append((corners + change.permute(0, 2, 3, 1) * ((PNET.side - 1.0) / scale)).flatten(1, 2))
            margins.append(margin.flatten(1))
        return torch.cat(boxes, 1), torch.cat(margins, 1), torch.cat([peak.flatten(1) for peak in peaks], 1)

    def _best(self, boxes: Tensor, margin: Tensor) -> Tensor:
        """Positions of the highest-scored candidates after suppression, (B, candidates)."""
        first = margin.argsort(dim=1, descending=True, stable=True)[:, : 4 * self.candidates]
        boxes, margin = boxes.detach().gather(1, first[..., None].expand(-1, -1, 4)), margin.gather(1, first)
        dropped = suppressed(boxes, margin, OVERLAP)
        kept = torch.where(dropped, NEVER, margin).argsort(dim=1, descending=True, stable=True)
        return first.gather(1, kept[:, : self.candidates])

    def _cells(self, boxes: Tensor) -> Tensor:
        """True at the cell in which a box has its centre, (B, n, S) bool; at the edge if the centre lies outside."""
        middle = (boxes.detach()[..., :2] + boxes.detach()[..., 2:]) / (2.0 * self.task.stride)
        across, down = self.task.width // self.task.stride, self.task.height // self.task.stride
        column, row = middle[..., 0].long().clamp(0, across - 1), middle[..., 1].long().clamp(0, down - 1)
        return (row * across + column)[..., None] == torch.arange(across * down, device=boxes.device)

    def _answers(self, boxes: Tensor, score: Tensor, evidence: Tensor) -> Tensor:
        """Scores and box of the best candidate of each cell, (B, S, 6); `evidence` (B, S) where there is none."""
        there = self._cells(boxes)
        value, best = torch.where(there, score[..., None], -math.inf).max(1)
        occupied = there.any(1)
        value = torch.where(occupied, value.where(occupied, 0.0), evidence)
        mine = boxes.gather(1, best[..., None].expand(-1, -1, 4))
        offset = (mine[..., :2] + mine[..., 2:]) / 2.0 - self.task.cells(mine)
        sides = mine[..., 2:] - mine[..., :2]
        box = torch.cat([offset / self.task.stride, sides / self.task.stride - MIDDLE], 2)
        return torch.cat([_against_zero(value), torch.where(occupied[..., None], box, 0.0)], 2)


def above(network: Published, logits: Tensor) -> Tensor:
    """Margin of the face above the network's threshold, from logits (B, 2, ...), (B, ...)."""
    return logits[:, 1] - logits[:, 0] - math.log(network.threshold / (1.0 - network.threshold))


def crops(x: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Contents of `boxes` (B, n, 4) as images of `side` pixels, (B * n, C, side, side); differentiable in `x`."""
    count = boxes.shape[1]
    share = (torch.arange(side, dtype=x.dtype, device=x.device) + 0.5) / side
    corner, length = boxes.flatten(0, 1)[:, :2], (boxes[..., 2:] - boxes[..., :2]).flatten(0, 1)
    place = corner[..., None] + length[..., None] * share - 0.5  # (B * n, 2, side): columns, then rows
    rows, columns = place[:, 1, :, None].expand(-1, -1, side), place[:, 0, None, :].expand(-1, side, -1)
    return sampled(x.repeat_interleave(count, 0), rows, columns)


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, (height, width), mode="area")


def _against_zero(margin: Tensor) -> Tensor:
    """Logits (..., 2) of a margin (...)."""
    return torch.stack([torch.zeros_like(margin), margin], -1)


def _largest(margin: Tensor, cells: Tensor) -> Tensor:
    """Largest of the margins (B, n) in each cell, by membership (B, n, S), (B, S)."""
    return torch.where(cells, margin[..., None], NEVER).amax(1)


def _square(boxes: Tensor) -> Tensor:
    """Squares around the centres of boxes (B, n, 4), with the longer side."""
    middle, sides = (boxes[..., :2] + boxes[..., 2:]) / 2.0, boxes[..., 2:] - boxes[..., :2]
    half = sides.amax(2, keepdim=True) / 2.0
    return torch.cat([middle - half, middle + half], 2)


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return MTCNN
