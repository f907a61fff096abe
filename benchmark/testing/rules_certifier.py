"""Rules for certifiers: a bound that is proved is compared with the exact distance of a linear classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import Certifier
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, Refused
from benchmark.oracles.linear import exact_distance
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.testing.rule import Inapplicable, demand, rules_of
from benchmark.testing.worlds import SHAPE, World, examples, global_state, same_state, seeded, threat_of
from benchmark.threat import Access, Norm


def _linear() -> tuple[World, nn.Linear]:
    """A linear classifier of two classes and inputs near and far from its boundary; the last label is wrong."""
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


def _certified(certifier: Certifier, norm: Norm, here: World) -> Tensor:
    access = certifier.supports.access
    threat = threat_of(norm, access=access, surrogate="toy" if access is Access.transfer else "")
    try:
        with seeded(0):
            return certifier.certify(here.system, here.x.clone(), here.y.clone(), threat=threat, rng=here.rng())
    except (Refused, ConfigError) as error:
        raise Inapplicable(f"the certifier refuses a linear system under {norm.value}: {error}") from error


def _norms(certifier: Certifier) -> list[Norm]:
    return [norm for norm in Norm if norm in certifier.supports.norms]


def gives_a_radius_per_example(certifier: Certifier) -> None:
    """(B,) float32, finite and not negative."""
    here, _ = _linear()
    for norm in _norms(certifier):
        radius = _certified(certifier, norm, here)
        expected = (len(here.x),)
        demand(tuple(radius.shape) == expected, f"{norm.value}: shape {tuple(radius.shape)}; expected {expected}")
        demand(radius.dtype == torch.float32, f"{norm.value}: radii are {radius.dtype}; expected float32")
        demand(bool(torch.isfinite(radius).all()), f"{norm.value}: radii are NaN or infinite")
        demand(bool((radius >= 0).all()), f"{norm.value}: negative radii; give 0 where nothing can be said")


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
    """On a linear classifier at least one radius is positive."""
    here, _ = _linear()
    for norm in _norms(certifier):
        demand(
            bool((_certified(certifier, norm, here) > 0).any()),
            f"{norm.value}: every radius on a linear classifier is 0; withdraw the norm from supports.norms",
        )


def gives_zero_where_the_label_is_wrong(certifier: Certifier) -> None:
    """A misclassified example has no certified radius."""
    here, _ = _linear()
    for norm in _norms(certifier):
        radius = float(_certified(certifier, norm, here)[-1])
        demand(radius == 0, f"{norm.value}: certified {radius:.4g} for an example that the system gets wrong")


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
    """A radius depends on its own example alone."""
    here, _ = _linear()
    for norm in _norms(certifier):
        whole = _certified(certifier, norm, here)
        for index in (torch.tensor([3]), torch.tensor([8, 0, 2])):
            part = _certified(certifier, norm, here.rows(index))
            demand(
                torch.allclose(part, whole[index], rtol=1e-5, atol=1e-7),
                f"{norm.value}: radii depend on the batch; compute each row by itself, and draw per row",
            )


def leaves_system_and_inputs_alone(certifier: Certifier) -> None:
    """Weights and inputs are as before."""
    for norm in _norms(certifier):
        here, _ = _linear()
        before = {name: value.clone() for name, value in here.system.state_dict().items()}
        x, y = here.x.clone(), here.y.clone()
        _certified(certifier, norm, here)
        with seeded(0):
            certifier.certify(here.system, x, y, threat=threat_of(norm), rng=here.rng())
        demand(torch.equal(x, here.x) and torch.equal(y, here.y), f"{norm.value}: x or y was changed in place")
        changed = [name for name, value in here.system.state_dict().items() if not torch.equal(value, before[name])]
        demand(not changed, f"{norm.value}: the system's {', '.join(changed)} was changed")


RULES = rules_of(
    gives_a_radius_per_example,
    proves_nothing_that_is_false,
    proves_something,
    gives_zero_where_the_label_is_wrong,
    same_seed_same_radius,
    batch_split_changes_nothing,
    leaves_system_and_inputs_alone,
)
