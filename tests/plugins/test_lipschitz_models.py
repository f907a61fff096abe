"""1-Lipschitz layers: singular values by SVD and by Fourier transform, and what the margin certifies."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmark_plugins.certifiers._graph.graph import Graph
from benchmark_plugins.certifiers._graph.nodes import Convolution
from benchmark_plugins.certifiers._graph.reading import read
from benchmark_plugins.certifiers._graph.slopes import constants, pair_constants, spectral_norm
from benchmark_plugins.certifiers.lipschitz import LipschitzMargin
from benchmark_plugins.models._almost_orthogonal import AlmostOrthogonalConv2d, AlmostOrthogonalLinear
from benchmark_plugins.models.lipschitz_cnn import LipschitzCNN
from benchmark_plugins.models.lipschitz_mlp import LipschitzMLP
from torch import Tensor, nn

from benchmark.api import DataSpec, Model
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Threat

SPEC = DataSpec((1, 6, 5), 3)


def trained(module: nn.Module, scale: float = 3.0) -> nn.Module:
    """Weights far from where they started."""
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * scale / parameter.shape[-1])
    return module


def test_a_convolution_has_no_singular_value_above_1_round_a_circle_by_fourier_transform() -> None:
    for scale in (0.0, 0.3, 3.0):
        layer = trained(AlmostOrthogonalConv2d(3, 5, 3), scale)
        assert isinstance(layer, AlmostOrthogonalConv2d)
        kernel = layer.scaled().detach().double().numpy()
        transfer = np.fft.fft2(kernel, (12, 12)).transpose(2, 3, 0, 1)  # a matrix per frequency
        singular = np.linalg.svd(transfer, compute_uv=False)
        assert singular.max() <= 1 + 1e-5
        assert singular.max() >= 0.3  # and is no trivial map
        circle = F.pad(torch.eye(3 * 36).reshape(-1, 3, 6, 6), (1, 1, 1, 1), mode="circular")
        matrix = F.conv2d(circle, layer.scaled()).flatten(1).detach()
        assert float(torch.linalg.matrix_norm(matrix, 2)) <= 1 + 1e-5


@pytest.mark.parametrize("sizes", [(7, 4), (4, 7), (6, 6)])
def test_a_dense_layer_has_no_singular_value_above_1(sizes: tuple[int, int]) -> None:
    layer = AlmostOrthogonalLinear(*sizes)
    at = torch.eye(sizes[0])
    start = (layer(at) - layer.bias).detach()
    if sizes[0] <= sizes[1]:  # orthonormal columns stay as they are
        torch.testing.assert_close(start @ start.T, torch.eye(sizes[0]), rtol=0, atol=1e-5)
    trained(layer)
    assert float(torch.linalg.matrix_norm((layer(at) - layer.bias).detach(), 2)) <= 1 + 1e-5


def graph_of(model: Model) -> tuple[System, Graph, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = System(trained(model.build(SPEC)), SPEC)
    x = torch.rand(20, *SPEC.shape, generator=torch.Generator().manual_seed(1))
    y = system.logits(x, SampleRandom(0, torch.arange(20))).argmax(1)
    return system, read(system, x, y, "certifier.test").graph, x, y


@pytest.mark.parametrize("model", [LipschitzMLP((9, 8)), LipschitzCNN(3)], ids=["mlp", "cnn"])
def test_a_whole_model_is_1_lipschitz_and_its_jacobians_are_below_the_bound(model: Model) -> None:
    _, graph, x, _ = graph_of(model)
    whole = constants(graph)[graph.logits]
    assert 0 < whole <= 1 + 1e-5
    with torch.enable_grad():
        jacobian = torch.autograd.functional.jacobian(lambda v: graph(v).sum(0), x.double())  # (K, B, *S)
    steepest = torch.linalg.matrix_norm(jacobian.transpose(0, 1).flatten(2), 2)
    assert float(steepest.max()) <= whole + 1e-9
    assert float(steepest.max()) > 0.01 * whole


@pytest.mark.parametrize("model", [LipschitzMLP((9, 8)), LipschitzCNN(3)], ids=["mlp", "cnn"])
def test_the_margin_certifies_at_least_what_one_constant_does(model: Model) -> None:
    system, graph, x, y = graph_of(model)
    rng = SampleRandom(0, torch.arange(20))
    radius = LipschitzMargin().certify(system, x, y, threat=Threat(Norm.l2, Fraction(1, 2)), rng=rng).double()
    logits = graph(x.double())
    margin = logits.amax(1) - logits.scatter(1, y[:, None], -torch.inf).amax(1)
    assert bool((radius >= margin / 2**0.5 * (1 - 1e-4) - 1e-4).all())
    assert bool((radius > 0).any())


@pytest.mark.parametrize("entries", [1 << 24, 0], ids=["written out", "by row and column sums"])
def test_the_norm_of_a_convolution_is_not_below_its_largest_singular_value(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark_plugins.certifiers._graph import slopes
    from benchmark_plugins.certifiers._graph.nodes import Input

    monkeypatch.setattr(slopes, "MOST_ENTRIES", entries)
    weight = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    node = Convolution((4, 3, 2), Input((2, 5, 4)), weight=weight, stride=(2, 2), padding=(1, 1))
    matrix = node.linear(torch.eye(40, dtype=torch.float64).reshape(40, 2, 5, 4)).flatten(1)
    true = float(torch.linalg.matrix_norm(matrix, 2))
    assert true <= spectral_norm(node) <= true * (1 + 1e-6 if entries else 4)


def test_the_constant_of_a_pair_is_that_of_its_difference() -> None:
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    layer = nn.Linear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(weight)
    x = torch.rand(1, 2)
    graph = read(System(layer, DataSpec((2,), 3)), x, torch.tensor([0]), "certifier.test").graph
    pairs = torch.tensor([[[1.0, -1.0, 0.0], [1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]], dtype=torch.float64)
    torch.testing.assert_close(pair_constants(graph, pairs), torch.tensor([[5.0, 3.0, 4.0]], dtype=torch.float64))
