"""The bits of a row do not depend on the other rows of its batch, for every activation that torch has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from benchmark.system import PASS_ROWS, padded

SPECIAL = {"MultiheadAttention", "Threshold", "Softmax2d", "Softmax", "Softmin", "LogSoftmax"}
"""Those that take more than one tensor, a setting without a default, or images."""

ACTIVATIONS = {
    **{name: getattr(nn, name) for name in activation.__all__ if name not in SPECIAL},
    "GELU tanh": lambda: nn.GELU("tanh"),
    "Threshold": lambda: nn.Threshold(0.1, 0.0),
    "Softmax": lambda: nn.Softmax(1),
    "Softmin": lambda: nn.Softmin(1),
    "LogSoftmax": lambda: nn.LogSoftmax(1),
}
WIDTHS = (1, 2, 3, 7, 10, 13, 17, 33, 77)
COUNTS = (1, 2, 5, 16, 17, 31, 33)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _answer(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and gradients of a padded pass, of the rows that were asked about."""
    rows = padded(x).clone().requires_grad_(True)
    with torch.enable_grad():
        value = model(rows)
        (slope,) = torch.autograd.grad(value.sum(), rows, allow_unused=True)
    return value.detach()[: len(x)], torch.zeros_like(x) if slope is None else slope[: len(x)]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_row_has_the_same_bits_in_every_batch(name: str) -> None:
    model = ACTIVATIONS[name]().eval()
    for size in WIDTHS:
        width = 2 * size if name == "GLU" else size  # which halves its inputs
        x = 2 * torch.randn(48, width, generator=torch.Generator().manual_seed(width))
        value, slope = _answer(model, x)
        for count in COUNTS:
            one, gradient = _answer(model, x[:count])
            assert torch.equal(one, value[:count]), width
            assert torch.equal(gradient, slope[:count]), width


def test_passes_of_fewer_rows_would_not_do() -> None:
    """The rule is needed: in passes of fewer rows the last bit depends on the batch; how few differs by processor."""
    models = (nn.Mish(), nn.Softplus(), nn.ELU(), nn.Sigmoid())
    alike = []
    for width in WIDTHS:
        x = 2 * torch.randn(48, width, generator=torch.Generator().manual_seed(width))
        few = [rows for rows in COUNTS if rows <= PASS_ROWS // 2]
        alike += [torch.equal(model(x)[:rows], model(x[:rows])) for model in models for rows in few]
    assert not all(alike)
