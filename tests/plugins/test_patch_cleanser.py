"""PatchCleanser: the geometry of the masks, the two rounds, and a certificate that no patch of any content breaks."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest
import torch
from benchmark_plugins.certifiers.patch_cleanser import PatchCertificate
from benchmark_plugins.defenses.patch_cleanser import DoubleMasking, PatchCleanser, masked_windows, positions
from torch import Tensor, nn

from benchmark.api import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Region, RegionKind, Threat

SPEC = DataSpec((1, 8, 8), 3)


@pytest.mark.parametrize(
    ("side", "patch", "masks", "stride", "width", "total"),
    [(224, 39, 6, 31, 69, 36), (32, 5, 6, 5, 9, 36), (28, 5, 4, 6, 10, 16), (8, 2, 3, 3, 4, 9)],
)
def test_the_masks_of_the_paper(side: int, patch: int, masks: int, stride: int, width: int, total: int) -> None:
    at, wide = positions(side, patch, masks)
    assert at[1] - at[0] == stride
    assert (wide, len(at) ** 2) == (width, total)
    assert at[-1] + wide == side
    covered = all(any(a <= p and p + patch <= a + wide for a in at) for p in range(side - patch + 1))
    assert covered


def test_every_patch_lies_in_a_mask_and_pairs_of_masks_are_counted() -> None:
    windows = masked_windows((3, 8, 8), 2, 3)
    for top, left in itertools.product(range(7), repeat=2):
        assert bool(windows[:, 0, top : top + 2, left : left + 2].flatten(1).all(1).any())
    assert len(windows) + len(windows) * (len(windows) - 1) // 2 == 45
    assert 36 + 36 * 35 // 2 == 666
    assert 16 + 16 * 15 // 2 == 136


def model() -> nn.Module:
    """Three classes by the mean of three blocks of rows, which hiding a square does not change by much."""
    layer = nn.Linear(64, 3)
    with torch.no_grad():
        layer.weight.zero_()
        for k, rows in enumerate((slice(0, 3), slice(3, 5), slice(5, 8))):
            block = torch.zeros(8, 8)
            block[rows] = 1.0 / block[rows].numel()
            layer.weight[k] = block.flatten()
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer)


def images() -> tuple[Tensor, Tensor]:
    """Clear ones of each class, and one that hangs on few pixels."""
    x = torch.full((4, 1, 8, 8), 0.2)
    x[0, :, 0:3], x[1, :, 3:5], x[2, :, 5:8] = 0.9, 0.9, 0.9
    x[3, :, 0:3] = 0.21
    return x, torch.tensor([0, 1, 2, 0])


def certificate(system: System, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    radius: Tensor = PatchCertificate().certify(system, x, y, threat=threat, rng=SampleRandom(0, torch.arange(len(x))))
    return radius


SQUARE = Threat(Norm.linf, Fraction(1), region=Region(RegionKind.square, 2))


def test_no_patch_anywhere_breaks_what_is_certified() -> None:
    system, (x, y) = System(model(), SPEC, (PatchCleanser(),)), images()
    radius = certificate(system, x, y, SQUARE)
    assert radius.tolist() == [1.0, 1.0, 1.0, 0.0]
    draw = torch.Generator().manual_seed(0)
    undefended = System(model(), SPEC)
    for content in (0.0, 1.0, None):
        tried = []
        for top, left in itertools.product(range(7), repeat=2):
            patched = x.clone()
            shown = torch.rand(1, 2, 2, generator=draw) if content is None else torch.full((1, 2, 2), content)
            patched[:, :, top : top + 2, left : left + 2] = shown
            tried.append(patched)
        every = torch.cat(tried)
        said = system.logits(every, SampleRandom(0, torch.arange(len(every)))).argmax(1).reshape(-1, 4)
        assert bool((said[:, :3] == y[:3]).all())
        bare = undefended.logits(every, SampleRandom(0, torch.arange(len(every)))).argmax(1).reshape(-1, 4)
        assert content != 1.0 or bool((bare[:, 3] != y[3]).any())


@pytest.mark.parametrize(("norm", "size"), [(Norm.linf, 1.0), (Norm.l2, 2.0), (Norm.l1, 4.0), (Norm.l0, 4.0)])
def test_inside_the_patch_everything_may_change(norm: Norm, size: float) -> None:
    system, (x, y) = System(model(), SPEC, (PatchCleanser(),)), images()
    threat = Threat(norm, Fraction(1), region=Region(RegionKind.square, 2))
    assert certificate(system, x, y, threat).tolist() == [size, size, size, 0.0]


def test_a_label_that_dissents_under_one_mask_alone_and_under_every_second_one_is_the_answer() -> None:
    windows = masked_windows((1, 8, 8), 2, 3)
    hidden = windows[4, 0]

    class Scripted(nn.Module):
        """Class 2 where the middle mask is in place, else class 1 (the patch speaks)."""

        def forward(self, x: Tensor) -> Tensor:
            clean = (x[:, 0][:, hidden] == 0.5).all(1)
            return torch.nn.functional.one_hot(torch.where(clean, 2, 1), 3).float()

    x = torch.full((1, 1, 8, 8), 0.2)
    defended = DoubleMasking(Scripted(), 2, 3, 0.5)
    assert defended(x).argmax(1).tolist() == [2]
    assert defended(torch.full((1, 1, 8, 8), 0.5)).argmax(1).tolist() == [2]  # all agree


def test_gradients_are_those_of_the_scores() -> None:
    defended = PatchCleanser().protect(model()).double()
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(defended, (x,), eps=1e-7, atol=1e-4)


def test_what_is_not_behind_the_masks_or_within_the_patch_is_refused() -> None:
    x, y = images()
    with pytest.raises(
        Refused, match=r"is for systems behind defense\.patch_cleanser, but the deployed module is Sequential"
    ):
        certificate(System(model(), SPEC), x, y, SQUARE)
    system = System(model(), SPEC, (PatchCleanser(),))
    for region in (Region(), Region(RegionKind.square, 3), Region(RegionKind.border, 1)):
        with pytest.raises(Refused, match=r"proves nothing outside a patch of 2x2 pixels, but threat\.region is"):
            certificate(system, x, y, Threat(Norm.linf, Fraction(1, 10), region=region))
    assert certificate(system, x, y, Threat(Norm.l0, Fraction(1))).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_settings_and_shapes_that_fit_nothing_are_refused() -> None:
    wrong: list[dict[str, Any]] = [{"patch": 0}, {"masks": 0}, {"fill": 2.0}]
    for settings in wrong:
        with pytest.raises(
            ConfigError, match=r"expected at least 1 pixel, at least 1 mask, and a value between 0 and 1"
        ):
            PatchCleanser(**settings)
    with pytest.raises(Refused, match=r"takes images \(C, H, W\), but the examples have shape \(5,\)"):
        masked_windows((5,), 2, 3)
    with pytest.raises(Refused, match=r"patch is 9, but the images have a side of 8 pixels"):
        masked_windows((1, 8, 8), 9, 3)
