"""Each method is the one of its paper, which the contract suite cannot know. Closed forms, not "it got worse"."""

from pathlib import Path

import torch
from acme_attacks.margin import radius
from acme_attacks.rings import AcmeRings
from acme_attacks.steps import AcmeSteps
from torch import nn

from benchmark.api import Norm

LINEAR = nn.Linear(4, 2, bias=False)
LINEAR.weight.data = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])


def test_the_radius_of_a_linear_model_is_its_margin_over_the_dual_norm() -> None:
    x, y = torch.tensor([[0.9, 0.1, 0.5, 0.5]]), torch.tensor([0])
    margin = 0.9 - 0.2 + 0.25
    assert torch.allclose(radius(LINEAR, x, y, Norm.linf), torch.tensor([margin / 3.5], dtype=torch.float64))
    assert torch.allclose(radius(LINEAR, x, y, Norm.l1), torch.tensor([margin / 2.0], dtype=torch.float64))


def test_rings_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    splits = AcmeRings().load(tmp_path, offline=True)
    distance = (splits.test.x() - 0.5).norm(dim=1)
    assert ((distance > 0.25) == (splits.test.y == 1)).all()


def test_a_staircase_has_its_values_and_the_gradient_of_the_identity() -> None:
    x = torch.tensor([[0.1, 0.3, 0.6, 0.99]], requires_grad=True)
    logits = AcmeSteps(levels=4).protect(LINEAR)(x)
    assert logits[0, 0].item() == 0.0 - 2.0 * 0.25 + 0.5 * 0.5
    (gradient,) = torch.autograd.grad(logits[0, 0], x)
    assert torch.equal(gradient[0], LINEAR.weight[0])
