"""Certifiers read the computation of the system itself: every architecture in the box, and systems to mislead them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benchmark_plugins.certifiers._graph.reading import read
from benchmark_plugins.certifiers.crown import Crown
from benchmark_plugins.certifiers.exact import Exact
from benchmark_plugins.certifiers.interval import IntervalBounds
from benchmark_plugins.certifiers.lipschitz import LipschitzMargin
from benchmark_plugins.certifiers.semidefinite import Semidefinite
from benchmark_plugins.defenses.jpeg import Jpeg
from benchmark_plugins.models.lenet import LeNet
from benchmark_plugins.models.lipschitz_cnn import LipschitzCNN
from benchmark_plugins.models.mlp import MLP
from benchmark_plugins.models.small_cnn import SmallCNN
from torch import Tensor, nn

from benchmark.api import Certifier, DataSpec, Model
from benchmark.errors import Refused
from benchmark.oracles.linear import exact_distance
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Threat

SPEC = DataSpec((2, 4, 4), 3, (0.3,), (0.2,))
CERTIFIERS: tuple[Certifier, ...] = (
    Exact(),
    IntervalBounds(),
    Crown(steps=2),
    Semidefinite(steps=2),
    LipschitzMargin(),
)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build()


def asked(module: nn.Module, spec: DataSpec = SPEC, count: int = 6) -> tuple[System, Tensor, Tensor, SampleRandom]:
    """A system, inputs, its answers, and randomness."""
    x = torch.rand(count, *spec.shape, generator=torch.Generator().manual_seed(1))
    system, rng = System(module, spec), SampleRandom(0, torch.arange(count))
    return system, x, system.logits(x, rng).argmax(1), rng


class Everything(nn.Module):
    """Residuals, reused layers, pooling, padding, slices, sorting, clipping, leaky and in-place activations."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, stride=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(16, 3))
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            self.norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.first(2 * x - 1)))
        h = self.twice(h) + h
        h = F.leaky_relu(self.twice(h) + h, 0.1)
        h = F.hardtanh(h, -1.5, 2.5) - 0.5 * torch.ones_like(h)
        h = F.max_pool2d(F.pad(h, (1, 0, 0, 1)), 3, 2) + F.avg_pool2d(h, 2)
        left, right = h.chunk(2, 1)
        h = torch.cat([torch.maximum(left, right), torch.minimum(left, right).abs()], 1)
        h = h * h.new_tensor([[1.0], [0.5]]) + F.adaptive_avg_pool2d(h, 1).expand_as(h)
        logits: Tensor = self.last(h.flatten(1)) / 2
        return -logits.flip(1)


@pytest.mark.parametrize(
    "build",
    [MLP((5,)).build, SmallCNN(2).build, LeNet().build, LipschitzCNN(2).build],
    ids=["mlp", "cnn", "lenet", "lipschitz"],
)
def test_architectures_of_the_box_are_read(build: Callable[[DataSpec], nn.Module]) -> None:
    system, x, y, rng = asked(seeded(lambda: build(SPEC)))
    graph = read(system, x, y, "certifier.test").graph
    torch.testing.assert_close(graph(x.double()).float(), system.logits(x, rng), rtol=1e-5, atol=1e-6)


def test_every_operator_that_is_understood_is_computed_as_torch_does() -> None:
    system, x, y, rng = asked(seeded(Everything))
    graph = read(system, x, y, "certifier.test").graph
    torch.testing.assert_close(graph(x.double()).float(), system.logits(x, rng), rtol=1e-5, atol=1e-6)


def test_a_convolution_is_its_unrolled_matrix() -> None:
    from benchmark_plugins.certifiers._graph.nodes import Convolution, Input

    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 1, 3, 3, generator=draw, dtype=torch.float64)
    node = Convolution((4, 3, 2), Input((2, 5, 4)), weight=weight, stride=(2, 2), padding=(1, 1), groups=2)
    matrix = node.linear(torch.eye(40, dtype=torch.float64).reshape(40, 2, 5, 4)).flatten(1).T
    back = node.adjoint(torch.eye(24, dtype=torch.float64).reshape(24, 4, 3, 2)).flatten(1)
    torch.testing.assert_close(back, matrix)
    size = node.magnitude(torch.eye(40, dtype=torch.float64).reshape(40, 2, 5, 4)).flatten(1).T
    torch.testing.assert_close(size, matrix.abs())


class Steeper(nn.Sequential):
    """A list of layers whose forward is another: its inputs are three times as far from the middle."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = nn.Sequential.__call__(nn.Sequential(*self), 3.0 * (x - 0.5) + 0.5)
        return logits


def layers() -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(32, 3)]


def hooked() -> nn.Module:
    model = nn.Sequential(*layers())
    model[1].register_forward_pre_hook(lambda _, inputs: (3.0 * (inputs[0] - 0.5) + 0.5,))
    return model


def hooked_inside() -> nn.Module:
    model = nn.Sequential(*layers())
    model.register_forward_hook(lambda _, __, logits: logits * torch.tensor([1.0, 3.0, 0.2]))
    return model


class Reused(nn.Module):
    """One layer, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.last = nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.mix(self.mix(x.flatten(1))))
        return logits


def matrix_of(system: System) -> tuple[Tensor, Tensor]:
    """Weight and bias of an affine system, by its answers."""
    at = torch.cat([torch.zeros(1, 32), torch.eye(32)]).reshape(-1, 2, 4, 4)
    with torch.no_grad():
        said = system.double()(at.double())
    return (said[1:] - said[0]).T, said[0]


@pytest.mark.parametrize(
    "build",
    [lambda: Steeper(*layers()), hooked, hooked_inside, Reused],
    ids=["own forward", "pre-hook", "hook", "reused"],
)
def test_what_is_affine_in_truth_is_certified_by_that_truth(build: Callable[[], nn.Module]) -> None:
    system, x, y, rng = asked(seeded(build))
    for certifier in (Exact(), IntervalBounds(halvings=20), Crown(halvings=20), LipschitzMargin()):
        norm = Norm.l2 if isinstance(certifier, LipschitzMargin) else Norm.linf
        radius = certifier.certify(system.float(), x, y, threat=Threat(norm, Fraction(1, 5)), rng=rng)
        weight, bias = matrix_of(system)
        exact = exact_distance(weight, bias, x.flatten(1).double(), y, norm)
        assert bool((radius <= exact + 1e-6).all()), type(certifier).__name__
        if norm is Norm.linf:
            torch.testing.assert_close(
                radius.double(), exact.clamp_max(0.4 if certifier.__class__ is not Exact else 32), rtol=2e-4, atol=1e-5
            )


def unnoticed(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().numpy().copy())


PLANTED: dict[str, tuple[Callable[[nn.Module, Tensor], Any], str]] = {
    "quantises its input": (lambda m, x: m(torch.round(x * 7) / 7), r"does not understand the operator round"),
    "casts to bytes": (
        lambda m, x: m((x * 255).to(torch.uint8).float() / 255),
        r"operator _to_copy .*rounds to torch.uint8",
    ),
    "is smooth": (lambda m, x: torch.tanh(m(x)), r"does not understand the operator tanh"),
    "multiplies two values": (
        lambda m, x: m(x) * m(1 - x),
        r"operator mul.* multiplies two values that depend on the input",
    ),
    "joins rows": (lambda m, x: m(x - x.mean(0)), r"mean .*not a mean over the pixels"),
    "joins rows by moving them": (lambda m, x: m(x.flip(0)), r"operator flip .*joins rows"),
    "branches on values": (
        lambda m, x: m(x) if float(x.sum()) > 50 else m(1 - x),
        r"not a fixed sequence of torch's operators",
    ),
    "leaves torch": (
        lambda m, x: m(unnoticed(x)),
        r"whose output depends on its input|not a fixed sequence|not the system's",
    ),
    "draws": (lambda m, x: m(x + torch.rand_like(x)), r"draws random numbers"),
    "gives no logits": (lambda m, x: (m(x),), r"takes a system with scores \(B, K\), but this one gives tuple"),
    "gives NaN": (lambda m, x: m(x) * torch.nan, r"read a computation that is not the system's"),
    "ignores its input": (lambda m, x: m(torch.zeros_like(x)), r"whose output depends on its input"),
    "normalises rows": (
        lambda m, x: m(F.layer_norm(x, x.shape[1:])),
        r"does not understand the operator native_layer_norm",
    ),
}


class Wrapped(nn.Module):
    def __init__(self, pass_by: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.inside, self.pass_by = nn.Sequential(*layers()), pass_by

    def forward(self, x: Tensor) -> Any:
        return self.pass_by(self.inside, x)


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("certifier", CERTIFIERS, ids=lambda c: type(c).__name__)
def test_what_is_not_understood_is_refused(name: str, certifier: Certifier) -> None:
    pass_by, sentence = PLANTED[name]
    system = System(seeded(lambda: Wrapped(pass_by)), SPEC)
    x = torch.rand(4, *SPEC.shape, generator=torch.Generator().manual_seed(2))
    norm = next(n for n in Norm if n in certifier.supports.norms)
    with pytest.raises(Refused, match=sentence):
        certifier.certify(
            system, x, torch.zeros(4).long(), threat=Threat(norm, Fraction(1, 10)), rng=SampleRandom(0, torch.arange(4))
        )


class Turns(nn.Module):
    """Answers otherwise from its third call on."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.calls = nn.Sequential(*layers()), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.inside(x)
        return logits if self.calls < 3 else -logits


def test_a_state_that_the_record_does_not_show_is_found() -> None:
    with pytest.raises(Refused, match=r"read a computation that is not the system's: they differ at \d+ of \d+ points"):
        read(System(seeded(Turns), SPEC), torch.rand(3, *SPEC.shape), torch.zeros(3).long(), "certifier.test")


def test_a_defense_at_inference_is_part_of_the_computation() -> None:
    system = System(seeded(lambda: MLP((5,)).build(DataSpec((3, 8, 8), 3))), DataSpec((3, 8, 8), 3), (Jpeg(),))
    with pytest.raises(Refused, match=r"certifier\.exact does not understand the operator"):
        read(system, torch.rand(2, 3, 8, 8), torch.zeros(2).long(), "certifier.exact")


def test_batch_normalisation_by_the_batch_is_refused() -> None:
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    system = System(nn.Sequential(norm, *layers()), SPEC)
    with pytest.raises(Refused, match=r"normalises by statistics of the batch"):
        read(system, torch.rand(2, *SPEC.shape), torch.zeros(2).long(), "certifier.exact")


@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("norm", [Norm.linf, Norm.l1])
def test_the_exact_radius_does_not_depend_on_the_scale_of_the_scores(scale: float, norm: Norm) -> None:
    def scaled() -> nn.Module:
        model: nn.Module = MLP((6,)).build(DataSpec((4,), 3))
        last: Any = list(model.children())[-1]
        with torch.no_grad():
            last.weight.mul_(4.0)
            last.bias.sub_(model(torch.full((1, 4), 0.5))[0])
            last.weight.mul_(scale)
            last.bias.mul_(scale)
        return model

    system, x, y, rng = asked(seeded(scaled), DataSpec((4,), 3), 5)
    threat = Threat(norm, Fraction(1, 5))
    radius = Exact().certify(system, x, y, threat=threat, rng=rng)
    assert bool(((radius > 0) & (radius < 4)).any())
    scale = 1.0  # the same network with scores of order 1
    plain, *_ = asked(seeded(scaled), DataSpec((4,), 3), 5)
    torch.testing.assert_close(radius, Exact().certify(plain, x, y, threat=threat, rng=rng), rtol=1e-4, atol=1e-5)


def test_models_of_any_size_are_refused_by_the_exact_certifier_in_one_sentence() -> None:
    system, x, y, rng = asked(seeded(lambda: SmallCNN(64).build(SPEC)))
    with pytest.raises(
        Refused, match=r"solves networks of at most 512 ReLUs, but this one has \d+; use certifier=crown"
    ):
        Exact().certify(system, x, y, threat=Threat(Norm.linf, Fraction(1, 10)), rng=rng)


def test_a_model_is_left_in_its_mode() -> None:
    model: Model = MLP((5,))
    module = model.build(SPEC).train()
    from benchmark_plugins.certifiers._graph.tracing import trace

    trace(module, SPEC.shape, "certifier.test")
    assert module.training
