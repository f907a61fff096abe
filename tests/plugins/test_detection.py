"""Detection: average precision against pycocotools, errors by hand, and a linear detector as exact oracle."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.attacks.dense_adversary import DenseAdversary
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.datasets.scenes import Scenes
from benchmark_plugins.datasets.scenes_boxes import ScenesBoxes, in_cells
from benchmark_plugins.metrics._average_precision import OVERLAPS, average_precision, matched
from benchmark_plugins.metrics._objects import rates
from benchmark_plugins.metrics.detection_map import DetectionMap
from benchmark_plugins.models.grid_detector import GridDetector
from torch import Tensor, nn

from benchmark.api import Attack, DataSpec, Detection
from benchmark.data import Examples
from benchmark.stages.batch import Job, attack_batch
from benchmark.system import System
from benchmark.threat import Goal, Norm, Threat

# --- average precision ---


def drawn(count: int = 40, sites: int = 9, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Objects (N, S, 5) and detections near them (N, S, 6), some missing, some misnamed, some of nothing."""
    draw = torch.Generator().manual_seed(5)

    def chance(share: float) -> Tensor:
        return torch.rand(count, sites, generator=draw) < share

    corner = torch.randint(0, 40, (count, sites, 2), generator=draw)
    size = torch.randint(6, 16, (count, sites, 2), generator=draw)
    label = torch.where(chance(0.4), torch.randint(1, classes, (count, sites), generator=draw), 0)
    boxes = torch.cat([corner, corner + size], 2) * (label > 0)[..., None]
    truth = torch.cat([label[..., None], boxes], 2)
    moved = torch.cat([corner, corner + size], 2) + 2.5 * torch.randn(count, sites, 4, generator=draw)
    moved[..., 2:] = torch.maximum(moved[..., 2:], moved[..., :2] + 1.0)
    said = torch.where(chance(0.2), torch.randint(0, classes, (count, sites), generator=draw), label)
    score = torch.rand(count, sites, generator=draw)
    return truth, torch.cat([said[..., None].float(), score[..., None], moved], 2).float()


def coco_average_precision(truth: Tensor, found: Tensor) -> Any:
    """Precision of pycocotools, (T, R, K): its evaluation of the same boxes, areas and numbers not limited."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    def annotation(number: int, image: int, label: int, box: Tensor) -> dict[str, Any]:
        x0, y0, x1, y1 = (float(v) for v in box.double())
        return {
            "id": number, "image_id": image, "category_id": max(label, -1 - label), "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0), "iscrowd": int(label < 0),
        }  # fmt: skip

    def listed(rows: Tensor, first: int) -> list[dict[str, Any]]:
        places = (rows[..., 0] != 0).nonzero().tolist()
        return [
            annotation(number, i, int(rows[i, s, 0]), rows[i, s, first:]) for number, (i, s) in enumerate(places, 1)
        ]

    objects, detections = coco.COCO(), coco.COCO()
    categories = [{"id": k} for k in range(1, int(truth[..., 0].max()) + 1)]
    images = [{"id": i} for i in range(len(truth))]
    objects.dataset = {"images": images, "annotations": listed(truth, 1), "categories": categories}
    scored = listed(found, 2)
    for place, line in zip((found[..., 0] > 0).nonzero().tolist(), scored, strict=True):
        line["score"] = float(found[place[0], place[1], 1])
    detections.dataset = {"images": images, "annotations": scored, "categories": categories}
    objects.createIndex()
    detections.createIndex()
    evaluation = cocoeval.COCOeval(objects, detections, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    precision: Any = evaluation.eval["precision"]
    return precision[:, :, :, 0, -1]


def test_average_precision_is_that_of_pycocotools() -> None:
    truth, found = drawn()
    ours = average_precision(matched(found, truth, 4), torch.ones(1, len(truth), dtype=torch.float64))[0, :, 1:]
    theirs = coco_average_precision(truth, found).mean(1)
    assert ours.shape == theirs.shape == (len(OVERLAPS), 3)
    assert np.allclose(ours.numpy(), theirs, atol=1e-9)
    assert 0.1 < float(ours[0].mean()) < 0.99


def test_recalls_and_overlaps_on_a_threshold_count_as_for_pycocotools() -> None:
    truth = torch.zeros(10, 10, 5, dtype=torch.long)  # of ten objects an image, 0 to 9 are found
    found = torch.zeros(10, 10, 6)
    place = torch.arange(10)
    for image in range(10):
        truth[image, :, 0] = 1 + image % 3
        truth[image, :, 1], truth[image, :, 3], truth[image, :, 4] = 30 * place, 30 * place + 20, 20
        found[image, :image, 0], found[image, :image, 1] = 1.0 + image % 3, 0.9 - 0.01 * image
        found[image, :, 2:] = truth[image, :, 1:]
        found[image, :, 5] -= place % 6  # overlaps of 1, 0.95, 0.9, ... 0.75
    ours = average_precision(matched(found, truth, 4), torch.ones(1, 10, dtype=torch.float64))[0, :, 1:]
    assert np.allclose(ours.numpy(), coco_average_precision(truth, found).mean(1), atol=1e-9)


def test_average_precision_among_crowds_is_that_of_pycocotools() -> None:
    truth, found = drawn()
    large = truth[..., 0] == 1  # those of one class are crowds, larger than what is found in them
    crowd = truth.clone()
    crowd[..., 0] = torch.where(large & (torch.arange(len(truth)) % 2 == 0)[:, None], -2, truth[..., 0])
    crowd[..., 3:] += 8 * (crowd[..., :1] < 0)
    ours = average_precision(matched(found, crowd, 4), torch.ones(1, len(crowd), dtype=torch.float64))[0, :, 1:]
    assert np.allclose(ours.numpy(), coco_average_precision(crowd, found).mean(1), atol=1e-9)
    uncounted = torch.where(crowd < -1, 0, crowd)
    plain = average_precision(matched(found, uncounted, 4), torch.ones(1, len(crowd), dtype=torch.float64))[0, :, 1:]
    assert float(ours[0, 0]) > float(plain[0, 0]) + 0.01


def test_a_detection_in_a_crowd_is_not_false_and_crowds_teach_nothing() -> None:
    crowd = scene((1, 0, 0))
    crowd[0, 4:9] = torch.tensor([-3, 4, 4, 12, 12])  # a crowd of class 2
    reading = seen((1, 0.9, 0, 0), (3, 0.9, 6, 6))
    assert not wrong("untargeted", reading, crowd)
    assert wrong("fabrication", seen((1, 0.9, 0, 0), (3, 0.9, 8, 0)), crowd)
    assert TASK.under("vanishing").aim(crowd)[0][0].tolist() == [0, -1, -1, -1, -1, -1, -1, -1, -1]
    output = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(TASK.loss(output, crowd), output)
    assert slope[0, 4:].abs().max() == 0
    assert float(slope[0, :4].abs().amin(0)[:4].min()) > 0


def test_average_precision_of_resamples_is_that_of_repeated_images() -> None:
    truth, found = drawn()
    weights = torch.randint(0, 3, (1, len(truth)), generator=torch.Generator().manual_seed(0)).double()
    rows = torch.arange(len(truth)).repeat_interleave(weights[0].long())
    plain = average_precision(matched(found[rows], truth[rows], 4), torch.ones(1, len(rows), dtype=torch.float64))
    assert torch.allclose(average_precision(matched(found, truth, 4), weights), plain, equal_nan=True)


def test_perfect_detections_have_precision_one_and_no_errors() -> None:
    truth, _ = drawn()
    found = torch.cat([truth[..., :1].float(), torch.ones(*truth.shape[:2], 1), truth[..., 1:].float()], 2)
    precision, precision_50, gone, misnamed, false = (float(values[0]) for values in rates(truth, found))
    assert precision == pytest.approx(1.0)
    assert precision_50 == pytest.approx(1.0)
    assert gone == misnamed == false == 0.0


# --- errors and goals ---

TASK = Detection(height=12, width=12, stride=4, objects=3)


def scene(*objects: tuple[int, int, int]) -> Tensor:
    """Labels of one scene of objects (class, left, top) of 4 pixels, (1, 9, 5)."""
    boxes = torch.zeros(1, 3, 5, dtype=torch.int64)
    for place, (label, left, top) in enumerate(objects):
        boxes[0, place] = torch.tensor([label, left, top, left + 4, top + 4])
    cells: Tensor = in_cells(boxes, 12)
    return cells


def seen(*detections: tuple[int, float, int, int]) -> Tensor:
    """Detections (class, score, left, top) of 4 pixels, (1, 9, 6)."""
    rows = torch.zeros(1, 9, 6)
    for place, (label, score, left, top) in enumerate(detections):
        rows[0, place] = torch.tensor([label, score, left, top, left + 4, top + 4])
    return rows


def wrong(goal: str, reading: Tensor, y: Tensor) -> bool:
    return bool(TASK.under(goal).wrong(reading, y))


def test_errors_are_told_apart() -> None:
    y = scene((1, 0, 0), (2, 8, 8))
    perfect = seen((1, 0.9, 0, 0), (2, 0.9, 8, 8))
    gone, misnamed = seen((1, 0.9, 0, 0)), seen((1, 0.9, 0, 0), (3, 0.9, 8, 8))
    made_up = seen((1, 0.9, 0, 0), (2, 0.9, 8, 8), (1, 0.9, 8, 0))
    for reading, kind in ((perfect, ""), (gone, "vanishing"), (misnamed, "mislabeling"), (made_up, "fabrication")):
        for goal in ("vanishing", "mislabeling", "fabrication"):
            assert wrong(goal, reading, y) == (goal == kind)
        assert wrong("untargeted", reading, y) == bool(kind)
    assert float(TASK.score(gone, y)) == float(TASK.score(misnamed, y)) == 0.5
    twice = seen((3, 0.5, 8, 8), (2, 0.9, 8, 8), (1, 0.9, 0, 0))
    assert not wrong("mislabeling", twice, y)  # the most certain one counts


def test_the_less_certain_of_two_overlapping_detections_is_dropped() -> None:
    output = torch.zeros(1, 9, 8)
    output[..., 0] = 5.0
    output[0, 0, :4] = torch.tensor([0.0, 6.0, 0.0, 0.0])
    output[0, 1, :4] = torch.tensor([0.0, 0.0, 3.0, 0.0])
    output[0, 1, 4] = -1.0  # its middle moves onto that of the cell to the left
    reading = TASK.read(output)
    assert reading[0, :2, 0].tolist() == [1.0, 0.0]
    assert reading[0, 0, 2:].tolist() == [-2.0, -2.0, 6.0, 6.0]


def test_aims_follow_the_goal() -> None:
    y = scene((1, 0, 0), (3, 8, 8))
    labels, reach = TASK.under("vanishing").aim(y)
    assert reach
    assert labels[0].tolist() == [0, -1, -1, -1, -1, -1, -1, -1, 0]
    large = in_cells(torch.tensor([[[1, 0, 0, 8, 8]]]), 12)
    assert TASK.under("vanishing").aim(large)[0][0].tolist() == [0, 0, -1, 0, 0, -1, -1, -1, -1]
    labels, reach = TASK.under("mislabeling").aim(y)
    assert reach
    assert labels[0].tolist() == [2, -1, -1, -1, -1, -1, -1, -1, 1]
    labels, reach = TASK.under("fabrication").aim(y)
    assert not reach
    assert labels[0].tolist() == [-1, 0, 0, 0, 0, 0, 0, 0, -1]


# --- a linear detector ---


class LinearDetector(nn.Module):
    """Object or background in the middle cell by w . x + b; all other cells are background; boxes are given."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, 12, 12) to (B, 9, 6): one class of objects."""
        score = x.flatten(1) @ self.weight + self.bias
        far = torch.full((len(x), 9), -50.0)
        at_object = torch.cat([far[:, :4], score[:, None], far[:, 5:]], 1)
        classes = torch.stack([torch.zeros_like(at_object), at_object], 2)
        boxes = torch.tensor([0.0, 0.0, -1.0, -1.0]).expand(len(x), 9, 4)
        return torch.cat([classes, boxes], 2)


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=20), DenseAdversary(steps=400)], ids=lambda a: type(a).__name__)
def test_attacks_on_a_linear_detector_are_exact(attack: Attack) -> None:
    """The object is gone if w . x + b < 0: from linf radius (w . x + b) / ||w||_1 on, and not before."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(144, generator=draw) / 12.0
    x = 0.4 + 0.2 * torch.rand(12, 1, 12, 12, generator=draw)
    plain = x.flatten(1) @ weight
    bias = float(-plain.min()) + 0.1
    exact = (plain + bias) / weight.abs().sum()
    task = Detection(height=12, width=12, stride=4, objects=1)
    system = System(LinearDetector(weight, bias), DataSpec((1, 12, 12), 2, task=task))
    y = in_cells(torch.tensor([1, 4, 4, 8, 8]).expand(len(x), 1, 5), 12)
    ids, eps = torch.arange(len(x)), Fraction(float(exact.median())).limit_denominator(10000)
    threat = Threat(norm=Norm.linf, eps=eps, goal=Goal.vanishing)
    job = Job(
        attack=attack, threat=threat, system=system, attacker_view=system, examples=Examples.of(ids, x, y), seed=0,
        batch_size=16, folder=None,  # type: ignore[arg-type]
    )  # fmt: skip
    outcomes = attack_batch(job, x, y, ids).outcomes
    assert bool(outcomes.clean_correct.all())
    gone = {m.name: m.value for m in DetectionMap().measure(outcomes)}["attacked_objects_gone"]
    assert gone == pytest.approx(float(outcomes.broken.float().mean()))
    clear = (exact - float(eps)).abs() > 1e-3
    assert torch.equal(outcomes.broken[clear], (exact < float(eps))[clear])
    assert 0 < int(outcomes.broken.sum()) < len(x)


# --- scenes and boxes ---


def test_boxes_of_scenes_are_those_of_their_pixels() -> None:
    """Both data sets are of the same scenes, and each digit lies in the box at the cell of its middle."""
    pixels, boxes = (kind().load(Path(), offline=True).test for kind in (Scenes, ScenesBoxes))
    at = torch.arange(30)
    assert torch.equal(pixels.x(at), boxes.x(at))
    for scene in at.tolist():
        label = pixels.y[scene].reshape(24, 24)
        found = boxes.y[scene][boxes.y[scene][:, 0] > 0]
        inside = sum(int((label[y0:y1, x0:x1] == k).sum()) for k, x0, y0, x1, y1 in found.tolist())
        assert inside == int((label > 0).sum()) > 0


def test_boxes_are_decoded_as_they_are_taught() -> None:
    """An answer that is encoded from a label by the formulas of the task has that label's box, and no loss.

    And the network answers in that shape.
    """
    y = scene((1, 1, 2), (2, 6, 7))
    middle, side = (y[..., 1:3] + y[..., 3:]) / 2.0, (y[..., 3:] - y[..., 1:3]).float()
    output = torch.zeros(1, 9, 8)
    output[..., :4] = 40.0 * torch.nn.functional.one_hot(y[..., 0], 4).float()
    output[..., 4:6] = (middle - TASK.cells(output)) / 4.0
    output[..., 6:] = side / 4.0 - 2.0
    objects = y[..., 0] > 0
    assert torch.allclose(TASK.read(output)[objects][:, 2:], y[objects][:, 1:].float(), atol=1e-5)
    assert float(TASK.loss(output, y)) < 1e-6
    assert not bool(TASK.wrong(TASK.read(output), y))
    network = GridDetector(width=2).build(DataSpec((1, 12, 12), 4, task=TASK))
    assert network.eval()(torch.rand(1, 1, 12, 12)).shape == output.shape
