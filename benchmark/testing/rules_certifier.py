"""Rules for certifiers: certified radii are compared with exact distances and with the results of attacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import Certifier
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import exact_distance
from benchmark.oracles.relu import SOLVED, ReLUNet
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import SHAPE, World, examples, global_state, same_state, seeded, threat_of
from benchmark.threat import Access, Norm
from benchmark.threat.ball import distance


def _linear() -> tuple[World, nn.Linear]:
    """Linear classifier of two classes, with inputs near and far from its boundary; the last label is wrong."""
    spec = DataSpec(SHAPE, 2)
    with seeded(7):
        layer = nn.Linear(108, 2)
    x = examples(10)[0].x()
    with torch.no_grad():
        layer.weight.mul_(4.0)
        layer.bias.sub_((x.flatten(1) @ layer.weight.T).mean(0) + layer.bias)
    system = System(nn.Sequential(nn.Flatten(), layer), spec)
    ids = torch.arange(len(x), dtype=torch.int64) + 5
    y = system.logits(x, SampleRandom(0, ids)).argmax(1)
    y[-1] = 1 - y[-1]
    return World(system, x, y, ids), layer


def _certified(certifier: Certifier, norm: Norm, here: World, *, copied: bool = True) -> Tensor:
    access = certifier.supports.access
    threat = threat_of(norm, access=access, surrogate="toy" if access is Access.transfer else "")
    try:
        x, y = (here.x.clone(), here.y.clone()) if copied else (here.x, here.y)
        with seeded(0):
            return certifier.certify(here.system, x, y, threat=threat, rng=here.rng())
    except (Refused, ConfigError) as error:
        raise Inapplicable(f"the certifier refuses the system under {norm.value}: {error}") from error


def _norms(certifier: Certifier) -> list[Norm]:
    return [norm for norm in Norm if norm in certifier.supports.norms]


def gives_a_radius_per_example(certifier: Certifier) -> None:
    """Radii are (B,) float32, finite and not negative."""
    here, _ = _linear()
    for norm in _norms(certifier):
        radius = _certified(certifier, norm, here)
        expected = (len(here.x),)
        demand(tuple(radius.shape) == expected, f"{norm.value}: shape {tuple(radius.shape)}; expected {expected}")
        demand(radius.dtype == torch.float32, f"{norm.value}: radii are {radius.dtype}; expected float32")
        demand(bool(torch.isfinite(radius).all()), f"{norm.value}: radii are NaN or infinite")
        demand(bool((radius >= 0).all()), f"{norm.value}: negative radii; return 0 where nothing is proved")


def proves_nothing_that_is_false(certifier: Certifier) -> None:
    """No certified radius is larger than the exact distance to the nearest misclassified input."""
    here, layer = _linear()
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    for norm in _norms(certifier):
        radius = _certified(certifier, norm, here).double()
        exact = exact_distance(weight, bias, here.x.flatten(1).double(), here.y, norm)
        over = radius > exact + 1e-4
        demand(
            not bool(over.any()),
            f"{norm.value}: {int(over.sum())} of {len(exact)} radii are larger than the exact distance (first: "
            f"{float(radius[over][:1].sum()):.4g} above {float(exact[over][:1].sum()):.4g}); the bound is wrong",
        )


def proves_something(certifier: Certifier) -> None:
    """At least one radius on a linear classifier is positive."""
    here, _ = _linear()
    for norm in _norms(certifier):
        demand(
            bool((_certified(certifier, norm, here) > 0).any()),
            f"{norm.value}: every radius on a linear classifier is 0; remove the norm from supports.norms",
        )


def gives_zero_where_the_label_is_wrong(certifier: Certifier) -> None:
    """A misclassified example has no certified radius."""
    here, _ = _linear()
    for norm in _norms(certifier):
        radius = float(_certified(certifier, norm, here)[-1])
        demand(radius == 0, f"{norm.value}: certified {radius:.4g} for a misclassified example")


def same_seed_same_radius(certifier: Certifier) -> None:
    """Certifying twice gives the same radii, and draws nothing from global generators."""
    here, _ = _linear()
    for norm in _norms(certifier):
        one, two = _certified(certifier, norm, here), _certified(certifier, norm, here)
        demand(torch.equal(one, two), f"{norm.value}: two calls with one seed differ; draw from `rng` alone")
        threat: dict[str, Any] = {"threat": threat_of(norm), "rng": here.rng()}
        with seeded(0):
            before = global_state()
            certifier.certify(here.system, here.x.clone(), here.y.clone(), **threat)
            same = same_state(before, global_state())
        demand(same, f"{norm.value}: a global generator was drawn from or seeded; draw from `rng`")


def batch_split_changes_nothing(certifier: Certifier) -> None:
    """A radius depends on its own example only."""
    here, _ = _linear()
    for norm in _norms(certifier):
        whole = _certified(certifier, norm, here)
        for index in (torch.tensor([3]), torch.tensor([8, 0, 2])):
            part = _certified(certifier, norm, here.rows(index))
            demand(
                torch.allclose(part, whole[index], rtol=1e-5, atol=1e-7),
                f"{norm.value}: radii depend on the batch; compute each row separately, and draw per row",
            )


@leaving_the_process_alone
def leaves_system_and_inputs_alone(certifier: Certifier) -> None:
    """Weights and inputs are not changed."""
    for norm in _norms(certifier):
        here, _ = _linear()
        before = {name: value.clone() for name, value in here.system.state_dict().items()}
        x, y = here.x.clone(), here.y.clone()
        _certified(certifier, norm, World(here.system, x, y, here.ids), copied=False)
        demand(torch.equal(x, here.x) and torch.equal(y, here.y), f"{norm.value}: x or y was changed in place")
        changed = [name for name, value in here.system.state_dict().items() if not torch.equal(value, before[name])]
        demand(not changed, f"{norm.value}: the system's {', '.join(changed)} was changed")


def _asked(certifier: Certifier, norm: Norm, here: World) -> Tensor | None:
    """Radii, or None if the system is refused, which is no fault."""
    try:
        return _certified(certifier, norm, here)
    except Inapplicable:
        return None


class _Steeper(nn.Sequential):
    """Its layers on inputs scaled by three around the middle of the box, which the list of layers does not show."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(3.0 * x - 1.0) if isinstance(layer, nn.Flatten) else layer(x)
        return x


def certifies_the_computation_not_its_layers(certifier: Certifier) -> None:
    """A system with its own forward or a hook is steeper than its layers; radii account for it, or it is refused."""
    here, layer = _linear()
    hooked = nn.Sequential(nn.Flatten(), layer)
    hooked.register_forward_pre_hook(lambda _, given: (3.0 * given[0] - 1.0,))
    weight, bias = 3.0 * layer.weight.double(), layer.bias.double() - layer.weight.double().sum(1)
    flat = here.x.flatten(1).double()
    y = (flat @ weight.T + bias).argmax(1)
    for how, module in (("its own forward", _Steeper(nn.Flatten(), layer)), ("a hook", hooked)):
        planted = World(System(module, here.spec), here.x, y, here.ids)
        for norm in _norms(certifier):
            radius = _asked(certifier, norm, planted)
            if radius is None:
                continue
            over = radius.double() > exact_distance(weight, bias, flat, y, norm) + 1e-4
            demand(
                not bool(over.any()),
                f"{norm.value}: {int(over.sum())} of {len(over)} radii are larger than the exact distance of a system "
                f"with {how}; certify what it computes, not a list of layers",
            )


def _network() -> World:
    """Network with one hidden layer and three classes; the last label is wrong."""
    spec = DataSpec((4,), 3)
    with seeded(11):
        model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
        x = torch.rand(8, 4)
    with torch.no_grad():
        first = model[0].get_parameter("weight").mul_(6.0)
        model[0].get_parameter("bias").copy_(-first @ torch.rand(4, generator=torch.Generator().manual_seed(0)))
        model[2].get_parameter("bias").sub_(model(x).mean(0))
    system, ids = System(model, spec), torch.arange(len(x), dtype=torch.int64) + 5
    y = system.logits(x, SampleRandom(0, ids)).argmax(1)
    y[-1] = (y[-1] + 1) % 3
    return World(system, x, y, ids)


def stays_below_the_exact_distance_of_a_network(certifier: Certifier) -> None:
    """No radius of a small ReLU network is larger than the exact distance, by a mixed-integer program."""
    here = _network()
    net = ReLUNet.of(here.system.model, (4,))
    for norm in (norm for norm in _norms(certifier) if norm in SOLVED):
        radius = _asked(certifier, norm, here)
        if radius is None:
            continue
        over = radius.double() > net.distance(here.x, here.y, norm) + 1e-5
        demand(
            not bool(over.any()),
            f"{norm.value}: {int(over.sum())} of {len(over)} radii are larger than the exact distances of a network",
        )


def _reached(here: World, norm: Norm) -> Tensor:
    """Distance to the nearest misclassified point on the segments to 400 points, by bisection, (B,) float64."""
    with seeded(3):
        ends = torch.rand(400, *here.spec.shape)
    ends[::2] = ends[::2].round()
    least = torch.full((len(here.x),), torch.inf, dtype=torch.float64)
    for row in range(len(here.x)):
        low, high = torch.zeros(len(ends)), torch.ones(len(ends))
        for _ in range(20):
            middle = (low + high) / 2
            wrong = _label(here, torch.lerp(here.x[row], ends, middle[:, None])) != here.y[row]
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        at = torch.lerp(here.x[row], ends, high[:, None])
        far = distance(at, here.x[row : row + 1].expand_as(at), norm)
        least[row] = torch.where(_label(here, at) != here.y[row], far, torch.inf).amin()
    return torch.where(_label(here, here.x) != here.y, 0.0, least)


def _label(here: World, x: Tensor) -> Tensor:
    return here.system.logits(x, SampleRandom(0, torch.arange(len(x)))).argmax(1)


def stays_below_what_an_attack_reaches(certifier: Certifier) -> None:
    """No radius is larger than the distance to a misclassified point found by search."""
    here = _network()
    for norm in _norms(certifier):
        radius = _asked(certifier, norm, here)
        if radius is None:
            continue
        over = radius.double() > _reached(here, norm) * (1 + 1e-5) + 1e-6
        demand(
            not bool(over.any()),
            f"{norm.value}: {int(over.sum())} of {len(over)} examples of a ReLU network are misclassified nearer than "
            "their certified radius",
        )


def certifies_nothing_that_is_not_finite(certifier: Certifier) -> None:
    """A system with NaN or infinite scores has no certified radius."""
    for value in (torch.nan, torch.inf):
        here, layer = _linear()
        with torch.no_grad():
            layer.bias.fill_(value)
        for norm in _norms(certifier):
            radius = _asked(certifier, norm, here)
            demand(
                radius is None or bool((radius == 0).all()),
                f"{norm.value}: certified a system whose scores are {value}; expected 0, since a non-finite score is "
                "not an answer",
            )


RULES = rules_of(
    gives_a_radius_per_example,
    proves_nothing_that_is_false,
    proves_something,
    gives_zero_where_the_label_is_wrong,
    same_seed_same_radius,
    batch_split_changes_nothing,
    leaves_system_and_inputs_alone,
    certifies_the_computation_not_its_layers,
    stays_below_the_exact_distance_of_a_network,
    stays_below_what_an_attack_reaches,
    certifies_nothing_that_is_not_finite,
)
