"""Segmentation against closed forms: a linear head per pixel, whose least perturbations are known exactly."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from benchmark_plugins.attacks.apgd import APGD, APGDLoss
from benchmark_plugins.attacks.dense_adversary import DenseAdversary
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.segpgd import SegPGD, weighted
from benchmark_plugins.datasets._scenes import INK, Drawn, draw_scenes
from benchmark_plugins.datasets.digits import Digits
from benchmark_plugins.datasets.scenes import Scenes
from benchmark_plugins.metrics._pixels import PixelRates
from benchmark_plugins.models.pixel_linear import PixelLinear
from benchmark_plugins.models.unet import UNet
from torch import Tensor

from benchmark.api import Attack, DataSpec, Segmentation
from benchmark.data import Batch, Examples
from benchmark.oracles.pixels import exact_segmentation_distance, pixel_distances
from benchmark.records.outcomes import Outcomes
from benchmark.sampling import SampleRandom
from benchmark.stages.batch import Attacked, Job, attack_batch
from benchmark.system import System
from benchmark.system.networks import cross_entropy
from benchmark.threat import Norm, Threat

CLASSES, SIDE = 4, 6
TASK = Segmentation(share=0.75)


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear head per pixel, with inputs that it labels rightly but for two pixels each; one pixel is void."""

    system: System
    weight: Tensor
    bias: Tensor
    x: Tensor
    y: Tensor


def linear() -> Linear:
    draw = torch.Generator().manual_seed(3)
    spec = DataSpec((3, SIDE, SIDE), CLASSES, task=TASK)
    model = PixelLinear().build(spec)
    weight, bias = torch.randn(CLASSES, 3, generator=draw), 0.1 * torch.randn(CLASSES, generator=draw)
    bias = bias - weight.sum(1) / 2.0
    with torch.no_grad():
        model[1].weight.copy_(weight[..., None, None])
        model[1].bias.copy_(bias)
    x = 0.1 + 0.8 * torch.rand(10, 3, SIDE, SIDE, generator=draw)
    system = System(model, spec)
    y = system(x).argmax(2)
    y[:, :2] = (y[:, :2] + 1) % CLASSES
    y[:, 2] = -1
    return Linear(system, weight.double(), bias.double(), x, y)


def attacked(attack: Attack, of: Linear, norm: Norm, eps: Fraction) -> Attacked:
    ids = torch.arange(len(of.x))
    threat = Threat(norm=norm, eps=eps)
    job = Job(
        attack=attack, threat=threat, system=of.system, attacker_view=of.system, examples=Examples.of(ids, of.x, of.y),
        seed=0, batch_size=16, folder=None,  # type: ignore[arg-type]
    )  # fmt: skip
    return attack_batch(job, of.x, of.y, ids)


def test_pixel_distances_are_half_spaces_of_the_margin() -> None:
    """Away from the box, linf distance = margin / l1 norm of the difference of weights, the least over classes."""
    of = linear()
    found = pixel_distances(of.weight, of.bias, of.x, of.y, Norm.linf)
    flat = of.x.double().flatten(2).transpose(1, 2)
    z = flat @ of.weight.T + of.bias
    at, label = (0, 5), int(of.y[0, 5])
    nearest = min(
        float((z[at][label] - z[at][k]) / (of.weight[label] - of.weight[k]).abs().sum())
        for k in range(CLASSES) if k != label
    )  # fmt: skip
    assert float(found[at]) == pytest.approx(nearest, rel=1e-6)
    assert bool((found[:, :2] == 0).all())
    assert bool(found[:, 2].isnan().all())


STRONG = [PGD(steps=200, step_size=0.01), SegPGD(steps=200, step_size=0.01), APGD(steps=100, loss=APGDLoss.margin)]


@pytest.mark.parametrize("attack", [*STRONG, FGSM(), DenseAdversary(steps=100)], ids=lambda a: type(a).__name__)
def test_no_attack_breaks_below_the_exact_distance(attack: Attack) -> None:
    of = linear()
    exact = exact_segmentation_distance(of.weight, of.bias, of.x, of.y, Norm.linf, TASK)
    for eps in (Fraction(1, 20), Fraction(1, 8)):
        broken = attacked(attack, of, Norm.linf, eps).outcomes.broken
        assert not bool((broken & (exact > float(eps) * (1 + 1e-4))).any())


@pytest.mark.parametrize("attack", STRONG, ids=lambda a: type(a).__name__)
def test_strong_attacks_break_above_the_exact_distance(attack: Attack) -> None:
    """Each pixel moves by itself under linf, so ascent of all pixels must find every example with room to spare."""
    of = linear()
    exact = exact_segmentation_distance(of.weight, of.bias, of.x, of.y, Norm.linf, TASK)
    eps = Fraction(float(exact.median())).limit_denominator(1000)
    outcomes = attacked(attack, of, Norm.linf, eps).outcomes
    assert bool(outcomes.attacked.all())
    open_to_all = exact < float(eps) * 0.8
    assert bool(open_to_all.any())
    assert bool(outcomes.broken[open_to_all].all())


def test_l2_least_perturbation_is_reached_and_not_beaten() -> None:
    """The closed form itself, against the point that it describes: just beyond it, the system is wrong as a whole."""
    of = linear()
    exact = exact_segmentation_distance(of.weight, of.bias, of.x, of.y, Norm.l2, TASK)
    each = pixel_distances(of.weight, of.bias, of.x, of.y, Norm.l2).nan_to_num(nan=torch.inf)
    fall = (of.y >= 0).sum(1) - TASK.needed(of.y) + 1
    for row in range(3):
        cheapest = each[row].argsort()[: int(fall[row])]
        assert float(each[row][cheapest].square().sum().sqrt()) == pytest.approx(float(exact[row]))
    broken = attacked(PGD(steps=100), of, Norm.l2, Fraction(1, 4)).outcomes.broken
    assert not bool((broken & (exact > 0.25)).any())


def test_segpgd_weighs_right_pixels_first() -> None:
    """At the first step wrong pixels have no part in the loss; at equal weights it is half the mean cross-entropy."""
    of = linear()
    from benchmark_plugins.attacks._base.active import Active, AttackLoss

    from benchmark.system.target import Target

    rng = SampleRandom(0, torch.arange(len(of.x)))
    target = Target(of.system, rng=rng, classes=CLASSES, task=TASK)
    active = Active.of(target, Threat().around(of.x, rng), of.y, targeted=False)
    logits = of.system(of.x)
    assert torch.allclose(weighted(0.5)(logits, active), 0.5 * AttackLoss.ce(logits, active))
    counted = (of.y >= 0).sum(1)
    right = torch.nn.functional.cross_entropy(logits.transpose(1, 2), of.y, ignore_index=-1, reduction="none")
    right = torch.where(TASK.right(TASK.read(logits), of.y), right, 0.0)
    assert torch.allclose(weighted(0.0)(logits, active), right.sum(1) / counted)


def test_outcomes_keep_labels_and_answers_per_pixel() -> None:
    of = linear()
    outcomes = attacked(PGD(steps=20), of, Norm.linf, Fraction(1, 4)).outcomes
    assert outcomes.sites is not None
    assert outcomes.adv_sites is not None
    assert outcomes.clean_sites is not None
    assert torch.equal(outcomes.sites.long(), of.y)
    assert torch.equal(outcomes.clean_sites.long(), of.system(of.x).argmax(2))
    assert torch.equal(TASK.wrong(outcomes.adv_sites, of.y), outcomes.adv_label == 0)
    assert torch.equal(outcomes.y, torch.ones(len(of.x), dtype=torch.int64))
    assert bool(outcomes.broken.any())


# --- scenes, network and metric ---


def test_scenes_are_drawn_by_the_seed_without_overlap() -> None:
    """Every box holds the ink of its digit and of no other, and another seed gives other scenes."""
    one, again, other = (draw(seed) for seed in (0, 0, 1))
    assert torch.equal(one.x, again.x)
    assert not torch.equal(one.x, other.x)
    for scene in range(20):
        ink = one.pixels[scene] > 0
        covered = torch.zeros_like(ink)
        for label, x0, y0, x1, y1 in one.boxes[scene].tolist():
            inside = one.pixels[scene, y0:y1, x0:x1]
            assert set(inside[inside > 0].tolist()) <= {label}
            covered[y0:y1, x0:x1] = True
        assert not bool((ink & ~covered).any())
    assert bool(((one.x >= INK) == (one.pixels > 0)[:, None]).all())


def draw(seed: int) -> Drawn:
    digits = Digits().load(Path(), offline=True).select
    return draw_scenes(digits.x(), digits.y, split="select", side=24, most=3, seed=seed)


def test_a_unet_learns_the_scenes() -> None:
    """Forty steps name most pixels, and a quarter of the loss is left."""
    splits = Scenes(side=12, most=1).load(Path(), offline=True)
    torch.manual_seed(0)
    model = UNet(width=4).build(splits.spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for step in range(40):
        at = torch.arange(32) + 32 * step
        loss = cross_entropy(model, Batch(at, splits.train.x(at), splits.train.y[at], None, TASK))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2.5


def test_mean_iou_is_the_published_formula() -> None:
    """Intersection over union per class, all pixels together, void left out; by hand for two small maps."""
    truth = torch.tensor([[0, 0, 1, 1], [2, 2, -1, 0]])
    answer = torch.tensor([[0, 1, 1, 1], [2, 0, 1, 0]])
    metric = PixelRates()
    cell = attacked(FGSM(), linear(), Norm.linf, Fraction(1, 8)).outcomes
    rows = {name: value[:2] for name, value in cell.tensors().items()}
    rows |= {"sites": truth.short(), "clean_sites": answer.short(), "adv_sites": answer.short()}
    metric.update(Outcomes(**rows))
    values = {m.name: m for m in metric.compute()}
    by_hand = (2 / 4 + 2 / 3 + 1 / 2) / 3  # classes 0, 1 and 2
    assert values["clean_miou"].value == pytest.approx(by_hand, abs=1e-6)
    assert values["attacked_pixel_accuracy"].value == pytest.approx(5 / 7)
