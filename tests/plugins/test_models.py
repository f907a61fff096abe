"""Every architecture: published sizes, closed forms, shapes, independence of rows, and weights from a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from benchmark_plugins.models import resnet, wide_resnet
from benchmark_plugins.models._normalize import Normalize
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import registry
from benchmark.api import Model
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, DataError, Refused

DENSE = ("linear", "mlp")
CONVOLUTIONAL = ("lenet", "small_cnn", "resnet", "wide_resnet", "googlenet")
QUICK: dict[str, dict[str, int]] = {"wide_resnet": {"depth": 10, "width": 1}}

IMAGENET = DataSpec((3, 224, 224), 1000)
MNIST = DataSpec((1, 28, 28), 10, (0.1307,), (0.3081,))
CIFAR10 = DataSpec((3, 32, 32), 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
TABLE = DataSpec((5,), 3, (0.1, 0.2, 0.3, 0.4, 0.5), (1.0, 2.0, 3.0, 4.0, 5.0))


def make(name: str, **params: Any) -> Model:
    """A model by its name, as the harness finds it."""
    cls: Any = registry.load("model", name)
    model: Model = cls(**params)
    return model


def build(name: str, spec: DataSpec, **params: Any) -> nn.Module:
    """A small module in evaluation mode, its batch statistics and weights off their initial values."""
    torch.manual_seed(0)
    module = make(name, **{**QUICK.get(name, {}), **params}).build(spec).train()
    with torch.no_grad():
        module(torch.rand(4, *spec.shape))
    return module.eval()


def weights(model: Model, spec: DataSpec) -> int:
    """The number of trainable values, without computing any."""
    with torch.device("meta"):
        return sum(p.numel() for p in model.build(spec).parameters())


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "spec", "count"),
    [
        ("linear", {}, MNIST, 784 * 10 + 10),
        ("mlp", {}, MNIST, 784 * 32 + 32 + 32 * 10 + 10),
        ("mlp", {"hidden": [500, 150]}, MNIST, 784 * 500 + 500 + 500 * 150 + 150 + 150 * 10 + 10),
        ("lenet", {}, MNIST, 61_706),
        ("lenet", {}, CIFAR10, 62_006),
        ("small_cnn", {}, MNIST, 160 + 4_640 + 32 * 49 * 64 + 64 + 650),
        ("resnet", {}, CIFAR10, 11_173_962),
        ("resnet", {"depth": 34}, CIFAR10, 21_282_122),
        ("resnet", {"depth": 50}, CIFAR10, 23_520_842),
        ("resnet", {"depth": 101}, CIFAR10, 42_512_970),
        ("resnet", {"depth": 152}, CIFAR10, 58_156_618),
        ("wide_resnet", {}, CIFAR10, 36_479_194),
        ("wide_resnet", {"depth": 34}, CIFAR10, 46_160_474),
        ("googlenet", {}, IMAGENET, 6_998_552 + 7_280),  # Caffe's bvlc_googlenet, and one more per normalised map
    ],
)
def test_number_of_weights(name: str, params: dict[str, Any], spec: DataSpec, count: int) -> None:
    assert weights(make(name, **params), spec) == count


@pytest.mark.parametrize("depth", sorted(resnet.STAGES))
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    with torch.device("meta"):
        net = make("resnet", depth=depth).build(CIFAR10)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == depth + _shortcuts(net)


def test_the_maps_of_googlenet_have_the_sizes_of_the_table() -> None:
    with torch.device("meta"):
        maps = [torch.empty(1, 3, 224, 224)]
        for layer in make("googlenet").build(IMAGENET):  # type: ignore[attr-defined]
            maps.append(layer(maps[-1]))
    sizes = list(dict.fromkeys(tuple(x.shape[1:]) for x in maps[2:-2]))
    assert sizes == [
        (64, 112, 112), (64, 56, 56), (192, 56, 56), (192, 28, 28), (256, 28, 28), (480, 28, 28), (480, 14, 14),
        (512, 14, 14), (528, 14, 14), (832, 14, 14), (832, 7, 7), (1024, 7, 7), (1024, 1, 1), (1024,),
    ]  # fmt: skip


def _shortcuts(net: nn.Module) -> int:
    return sum(isinstance(m, resnet.Block) and isinstance(m.shortcut, nn.Sequential) for m in net.modules())


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENSE + CONVOLUTIONAL)
@pytest.mark.parametrize(
    ("shape", "classes"),
    [((1, 8, 8), 10), ((3, 8, 8), 2), ((1, 28, 28), 3), ((3, 32, 32), 10), ((3, 6, 6), 3), ((2, 12, 9), 2)],
)
def test_logits_for_any_image_size_and_number_of_classes(name: str, shape: tuple[int, ...], classes: int) -> None:
    module = build(name, DataSpec(shape, classes))
    for rows in (1, 3):
        logits = module(torch.rand(rows, *shape))
        assert logits.shape == (rows, classes)
        assert logits.dtype == torch.float32
        assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", DENSE)
def test_tables_are_taken_by_dense_models(name: str) -> None:
    assert build(name, TABLE)(torch.rand(7, 5)).shape == (7, 3)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_tables_are_refused_by_convolutional_models(name: str) -> None:
    with pytest.raises(Refused, match=rf"^model\.{name} takes images .* have shape \(5,\); choose model=linear"):
        make(name).build(TABLE)


@pytest.mark.parametrize("name", ["lenet", "small_cnn"])
def test_images_that_pooling_would_use_up_are_refused(name: str) -> None:
    with pytest.raises(Refused, match=rf"^model\.{name} takes images of at least 4x4 pixels, .* are 3x9"):
        make(name).build(DataSpec((1, 3, 9), 2))
    assert build(name, DataSpec((1, 4, 4), 2))(torch.rand(2, 1, 4, 4)).shape == (2, 2)


def test_an_image_of_28_pixels_is_padded_to_the_32_of_the_paper() -> None:
    small, large = build("lenet", MNIST), build("lenet", DataSpec((1, 32, 32), 10, (0.1307,), (0.3081,)))
    large.load_state_dict(small.state_dict())
    x = torch.rand(3, 1, 28, 28)
    background = F.pad(x, (2, 2, 2, 2), value=0.1307)  # which the normalisation takes to the zeros of the padding
    torch.testing.assert_close(small(x), large(background))


# --- normalisation ---------------------------------------------------------------------------------------------------


def test_normalisation_is_per_channel_and_one_value_serves_all() -> None:
    x = torch.rand(2, 3, 4, 4)
    normalize = Normalize(DataSpec((3, 4, 4), 2, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))
    for channel, (mean, std) in enumerate(((0.1, 0.5), (0.2, 1.0), (0.3, 2.0))):
        torch.testing.assert_close(normalize(x)[:, channel], (x[:, channel] - mean) / std)
    one = Normalize(DataSpec((3, 4, 4), 2, (0.5,), (0.25,)))
    torch.testing.assert_close(one(x), 4 * x - 2)
    assert torch.equal(Normalize(DataSpec((3, 4, 4), 2))(x), x)


@pytest.mark.parametrize("spec", [TABLE, CIFAR10], ids=["table", "image"])
def test_linear_logits_and_gradient_in_closed_form(spec: DataSpec) -> None:
    module = build("linear", spec)
    weight, bias = module.state_dict().values()
    x = torch.rand(4, *spec.shape, requires_grad=True)
    shape = (-1, *[1] * (len(spec.shape) - 1))
    mean, std = torch.tensor(spec.mean).reshape(shape), torch.tensor(spec.std).reshape(shape)
    logits = module(x)
    torch.testing.assert_close(logits, ((x - mean) / std).flatten(1) @ weight.T + bias)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    torch.testing.assert_close(gradient[0], weight[1].reshape(spec.shape) / std)


def test_nearest_means_have_their_known_accuracy_and_boundaries(tmp_path: Path) -> None:
    """87.0 % of the test rows; the label is that of the mean that is nearest by distance."""
    digits: Any = registry.load("dataset", "digits")()
    splits = digits.load(tmp_path, offline=True)
    model = make("nearest_class_mean")
    network, weights = model.build(splits.spec), model.pretrained(splits.spec)
    assert weights is not None
    network.load_state_dict(weights)
    x, y = splits.test.x().flatten(1), splits.test.y
    rows = torch.cat([splits.train.x(), splits.select.x()]).flatten(1).double()
    labels = torch.cat([splits.train.y, splits.select.y])
    means = torch.stack([rows[labels == k].mean(0) for k in range(10)])
    found = network(x).argmax(1)
    assert torch.equal(found, torch.cdist(x.double(), means).argmin(1))
    assert int((found == y).sum()) == 435


def test_mlp_is_its_formula() -> None:
    module = build("mlp", TABLE, hidden=(4, 6))
    w1, b1, w2, b2, w3, b3 = module.state_dict().values()
    x = torch.rand(9, 5)
    first = torch.relu(((x - torch.tensor(TABLE.mean)) / torch.tensor(TABLE.std)) @ w1.T + b1)
    torch.testing.assert_close(module(x), torch.relu(first @ w2.T + b2) @ w3.T + b3)


@pytest.mark.parametrize("name", DENSE + CONVOLUTIONAL)
def test_normalisation_comes_first_and_is_no_weight(name: str) -> None:
    spec = DataSpec((1, 8, 8), 2, (0.25,), (0.5,))
    plain, normalized = build(name, DataSpec((1, 8, 8), 2)), build(name, spec)
    assert not any(key.startswith("0.") for key in normalized.state_dict())
    normalized.load_state_dict(plain.state_dict())
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(normalized(x), plain((x - 0.25) / 0.5))


# --- blocks ----------------------------------------------------------------------------------------------------------


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    """Batch normalisation from its running statistics, spelt out."""
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
    return (x - layer.running_mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]


def test_residual_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block: Any = resnet.Block(4, 8, 2, bottleneck=False)
    block(torch.randn(8, 4, 6, 6))
    block.eval()
    x = torch.randn(2, 4, 6, 6)
    conv1, bn1, _, conv2, bn2 = block.residual
    hidden = torch.relu(norm(F.conv2d(x, conv1.weight, stride=2, padding=1), bn1))
    shortcut = norm(F.conv2d(x, block.shortcut[0].weight, stride=2), block.shortcut[1])
    expected = torch.relu(norm(F.conv2d(hidden, conv2.weight, padding=1), bn2) + shortcut)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_bottleneck_has_its_stride_in_the_middle_and_an_identity_where_shapes_agree() -> None:
    block: Any = resnet.Block(16, 4, 1, bottleneck=True).eval()
    assert isinstance(block.shortcut, nn.Identity)
    strided: Any = resnet.Block(16, 4, 2, bottleneck=True)
    convolutions = [m for m in strided.residual if isinstance(m, nn.Conv2d)]
    assert [c.kernel_size[0] for c in convolutions] == [1, 3, 1]
    assert [c.stride[0] for c in convolutions] == [1, 2, 1]
    with torch.no_grad():
        block.residual[-1].weight.zero_()
    x = torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(block(x), torch.relu(x))


@pytest.mark.parametrize(("inputs", "stride"), [(8, 1), (4, 2)])
def test_wide_block_is_its_formula(inputs: int, stride: int) -> None:
    torch.manual_seed(0)
    block: Any = wide_resnet.Block(inputs, 8, stride)
    block(torch.randn(8, inputs, 6, 6))
    block.eval()
    x = torch.randn(2, inputs, 6, 6)
    conv1, bn2, _, conv2 = block.residual
    active = torch.relu(norm(x, block.first))
    hidden = torch.relu(norm(F.conv2d(active, conv1.weight, stride=stride, padding=1), bn2))
    shortcut = x if stride == 1 else F.conv2d(active, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), F.conv2d(hidden, conv2.weight, padding=1) + shortcut, atol=1e-5, rtol=1e-5)


def test_wide_weights_start_with_the_deviation_of_he() -> None:
    torch.manual_seed(0)
    block: Any = wide_resnet.Block(64, 128, 1)
    assert float(block.residual[0].weight.detach().std()) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENSE + CONVOLUTIONAL)
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    spec = DataSpec((3, 8, 8), 4)
    module = build(name, spec)
    x = torch.rand(5, 3, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[2].sum(), x)
    assert bool((gradient[2] != 0).any())
    assert not bool(gradient[[0, 1, 3, 4]].any())
    torch.testing.assert_close(module(x)[2:3], module(x[2:3]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", DENSE + CONVOLUTIONAL)
def test_initial_weights_follow_the_seed(name: str) -> None:
    first, second = build(name, DataSpec((1, 8, 8), 2)), build(name, DataSpec((1, 8, 8), 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert make(name).pretrained(DataSpec((1, 8, 8), 2)) is None


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("mlp", {"hidden": []}, r"model\.hidden is \[\]; expected the sizes of one or more layers"),
        ("mlp", {"hidden": [32, 0]}, r"model\.hidden is \[32, 0\]"),
        ("small_cnn", {"width": 0}, r"model\.width is 0; expected at least 1 map"),
        ("resnet", {"depth": 20}, r"model\.depth is 20; expected one of 18, 34, 50, 101, 152"),
        ("wide_resnet", {"depth": 30}, r"model\.depth is 30; expected 6 n \+ 4"),
        ("wide_resnet", {"width": 0}, r"model\.width is 0; expected a factor of at least 1"),
        ("checkpoint", {"sha256": "abc"}, r"model\.sha256 is 'abc'; expected 64 lower-case"),
    ],
)
def test_wrong_values_are_refused(name: str, params: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(name, **params)


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A file of weights of the small network on digits, and the module that they came from."""
    module = build("small_cnn", DataSpec((1, 8, 8), 10))
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(module.state_dict(), path)
    return path, module


@pytest.mark.parametrize("name", DENSE + CONVOLUTIONAL)
def test_any_architecture_goes_through_a_file(name: str, tmp_path: Path) -> None:
    spec, path = DataSpec((1, 8, 8), 10, (0.3,), (0.4,)), tmp_path / "weights.safetensors"
    module = build(name, spec)
    safetensors.torch.save_file(module.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    model = make("checkpoint", path=str(path), sha256=sha256, model=make(name, **QUICK.get(name, {})))
    torch.manual_seed(1)
    again = model.build(spec).eval()
    loaded = model.pretrained(spec)
    assert loaded is not None
    x = torch.rand(4, 1, 8, 8)
    assert not torch.equal(again(x), module(x))
    again.load_state_dict(loaded)
    assert torch.equal(again(x), module(x))


def test_reading_weights_draws_nothing(trained: tuple[Path, nn.Module]) -> None:
    path, _ = trained
    before = torch.random.get_rng_state()
    make("checkpoint", path=str(path), model=make("small_cnn")).pretrained(DataSpec((1, 8, 8), 10))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_file_with_another_hash_is_refused(trained: tuple[Path, nn.Module]) -> None:
    path, _ = trained
    model = make("checkpoint", path=str(path), sha256="0" * 64, model=make("small_cnn"))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=rf"has sha256 {found}, but model\.sha256 is 0{{64}}; get the right file"):
        model.pretrained(DataSpec((1, 8, 8), 10))


def test_the_file_counts_as_an_input(trained: tuple[Path, nn.Module]) -> None:
    path, _ = trained
    outer = make("checkpoint", path=str(path), model=make("small_cnn"))
    assert outer.files() == (path,)
    assert make("checkpoint", path=str(path), sha256="0" * 64, model=make("small_cnn")).files() == (path,)
    assert make("checkpoint", path="a", sha256="0" * 64, model=outer).files() == (Path("a"), path)


def test_weights_of_another_architecture_are_refused(trained: tuple[Path, nn.Module]) -> None:
    path, _ = trained
    spec = DataSpec((1, 8, 8), 10)
    with pytest.raises(
        DataError, match=r"does not fit MLP on this dataset: 10 tensors differ \(1\.bias is \(16,\), expected"
    ):
        make("checkpoint", path=str(path), model=make("mlp")).pretrained(spec)
    with pytest.raises(DataError, match=r"2 tensors differ \(10\.bias is \(10,\), expected \(3,\); 10\.weight is"):
        make("checkpoint", path=str(path), model=make("small_cnn")).pretrained(DataSpec((1, 8, 8), 3))


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    spec = DataSpec((1, 8, 8), 10)
    with pytest.raises(DataError, match=r"model\.path is '/no/such/file', which is not a file; expected a safetensors"):
        make("checkpoint", path="/no/such/file", model=make("linear")).pretrained(spec)
    (tmp_path / "weights.pt").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match=r"weights\.pt is not a safetensors file"):
        make("checkpoint", path=str(tmp_path / "weights.pt"), model=make("linear")).pretrained(spec)
