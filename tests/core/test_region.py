"""Regions: stripes and saliency maps are what they are said to be, and everybody sees an example's own region."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from benchmark.data import DataSpec
from benchmark.errors import ConfigError, DataError
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.stages.settle import salient, with_fixed_region
from benchmark.system import System
from benchmark.testing.toys import Constant, Quantised
from benchmark.testing.worlds import Jitter, Net
from benchmark.threat import Norm, Region, RegionKind, Threat
from benchmark.threat.region import Masks

DIGITS = nearest_class_mean("digits")


def _of(kind: RegionKind, size: int) -> Threat:
    return Threat(Norm.l2, Fraction(1), region=Region(kind, size))


def _rng(count: int) -> SampleRandom:
    return SampleRandom(0, torch.arange(count) * 3 + 5)


def _mask(threat: Threat, x: Tensor) -> Tensor:
    mask = threat.around(x, _rng(len(x))).mask
    assert mask is not None
    return mask


def test_stripes_are_open_and_fixed_by_turns() -> None:
    images = _mask(_of(RegionKind.stripes, 2), torch.zeros(3, 2, 7, 5)).expand(3, 2, 7, 5)
    assert images[0, 0, :, 0].tolist() == [True, True, False, False, True, True, False]
    assert torch.equal(images, images[:1, :1, :, :1].expand(3, 2, 7, 5))
    features = _mask(_of(RegionKind.stripes, 3), torch.zeros(2, 8))
    assert features[0].tolist() == [True, True, True, False, False, False, True, True]
    assert bool(_mask(_of(RegionKind.stripes, 9), torch.zeros(1, 1, 7, 5)).all())


def test_camouflage_is_rectangles_or_two_words() -> None:
    x = torch.zeros(2, 3, 32, 32)
    art = _mask(_of(RegionKind.art, 4), x).expand(2, 3, 32, 32)[0, 0]
    rows, columns = art.any(1).nonzero().squeeze(1).tolist(), art.any(0).nonzero().squeeze(1).tolist()
    assert rows == [*range(6, 10), *range(22, 26)]
    assert columns == [*range(3, 13), *range(19, 29)]
    assert int(art.sum()) == 8 * 20
    words = _mask(_of(RegionKind.graffiti, 1), x).expand(2, 3, 32, 32)[0, 0]
    shown = ["".join(" #"[int(dot)] for dot in row) for row in words[:, 4:27] if bool(row.any())]
    assert shown == [
        "#      ###  #   # #####",
        "#     #   # #   # #    ",
        "#     #   #  # #  #### ",
        "#     #   #  # #  #    ",
        "#####  ###    #   #####",
        "#   #  ###  ##### #####",
        "#   # #   #   #   #    ",
        "##### #####   #   #### ",
        "#   # #   #   #   #    ",
        "#   # #   #   #   #####",
    ]
    assert not bool(words[:, :4].any() | words[:, 27:].any())
    with pytest.raises(DataError, match=r"20x46 pixels with dots of 2, and an image has 32x32; choose a smaller"):
        _mask(_of(RegionKind.graffiti, 2), x)


@pytest.mark.parametrize("kind", [k for k in RegionKind if k not in (RegionKind.full, RegionKind.file)])
def test_a_region_of_no_size_is_refused(kind: RegionKind) -> None:
    with pytest.raises(ConfigError, match=rf"expected at least 1 pixel for region {kind.value}"):
        Region(kind)


def test_a_linear_models_saliency_is_the_weight_of_the_true_label() -> None:
    x, y = DIGITS.x[:20].float().reshape(-1, 1, 8, 8), DIGITS.y[:20]
    system = System(DIGITS.model(), DataSpec((1, 8, 8), 10))
    mask = _mask(with_fixed_region(_of(RegionKind.saliency, 7), system, x, y, _rng(20)), x).flatten(1)
    for row, label in zip(mask, y.tolist(), strict=True):
        weight = DIGITS.weight[label].abs()
        assert int(row.sum()) == 7
        assert float(weight[row].min()) >= float(weight[~row].max())


class _Colours(nn.Module):
    """Logit k is the sum of weight[k] * x over channels and pixels."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K)."""
        return x.flatten(1) @ self.get_buffer("weight").flatten(1).T


def test_the_steepest_channel_counts_and_equals_go_by_position() -> None:
    weight = torch.zeros(2, 3, 2, 2)
    weight[0, 1, 1, 0], weight[0, 2, 0, 1] = -5.0, 4.0  # pixels 2 and 1; the others are alike
    weight[0, :, 0, 0] = weight[0, :, 1, 1] = 2.0  # though they sum to more over channels
    system = System(_Colours(weight), DataSpec((3, 2, 2), 2))
    x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 0, 0, 0])
    for size, open_pixels in ((1, [2]), (2, [1, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])):
        mask = salient(system, x, y, _rng(4), size)
        assert mask.shape == x.shape
        assert mask[3, 0].flatten().nonzero().flatten().tolist() == open_pixels
        assert torch.equal(mask, mask[:1, :1].expand_as(mask))


def test_the_mask_depends_on_the_example_alone_and_not_on_what_acts_at_inference() -> None:
    spec = DataSpec((3, 6, 6), 3)
    x = torch.rand(9, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    y, rng = torch.arange(9) % 3, _rng(9)
    whole = salient(System(Net(spec), spec), x, y, rng, 5)
    assert not torch.equal(whole[0], whole[3])  # the same label, another input
    parts = [
        salient(System(Net(spec), spec), x[i : i + 1], y[i : i + 1], rng.rows(torch.tensor([i])), 5) for i in range(9)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(salient(System(Net(spec), spec, (Jitter(),)), x, y, rng, 5), whole)


@pytest.mark.parametrize(
    "model",
    [
        Constant(torch.arange(10.0), connected=False),
        Constant(torch.arange(10.0)),
        Quantised(DIGITS.model(), 8),
        nn.Sequential(DIGITS.model(), nn.Threshold(1e9, torch.nan)),
    ],
    ids=["no graph", "zero", "rounded away", "not a number"],
)
def test_a_model_without_slopes_is_refused(model: nn.Module) -> None:
    x, y = DIGITS.x[:3].float(), DIGITS.y[:3]
    with pytest.raises(DataError, match="true label of example 5 has a zero gradient, and a saliency region needs the"):
        salient(System(model, DataSpec((64,), 10)), x, y, _rng(3), 5)


@pytest.mark.parametrize("kind", [RegionKind.random, RegionKind.saliency])
def test_a_settled_region_is_found_by_the_examples_ids_alone(kind: RegionKind) -> None:
    spec = DataSpec((3, 6, 6), 3)
    x = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    rng = SampleRandom(0, torch.tensor([40, 2, 17, 8, 3]))
    threat = with_fixed_region(_of(kind, 4), System(Net(spec), spec), x, torch.arange(5) % 3, rng)
    whole = threat.around(x, rng).mask
    assert whole is not None
    some = torch.tensor([3, 0, 3])
    for other in (rng.rows(some), rng.rows(some).child("an attack inside an attack")):
        assert torch.equal(threat.unbounded().around(x[some], other).mask, whole[some])  # type: ignore[arg-type]
    if kind is RegionKind.random:
        assert torch.equal(whole, _of(kind, 4).around(x, rng).mask)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="region of example 99 is not fixed"):
        threat.around(x[:1], SampleRandom(0, torch.tensor([99])))


def test_a_saliency_region_that_is_not_settled_is_refused() -> None:
    with pytest.raises(DataError, match="depends on the system; fix it first"):
        _of(RegionKind.saliency, 3).around(torch.zeros(1, 4), _rng(1))


def test_regions_that_are_the_same_for_all_need_no_settling() -> None:
    threat = _of(RegionKind.stripes, 2)
    assert (
        with_fixed_region(
            threat, System(Net(DataSpec((4,), 2)), DataSpec((4,), 2)), torch.zeros(1, 4), torch.zeros(1), _rng(1)
        )
        is threat
    )
    assert Masks.of(torch.tensor([4, 1]), torch.tensor([[True], [False]])).at(torch.tensor([1, 4])).tolist() == [
        [False],
        [True],
    ]
