"""Rows of a pass: how far a batch is padded, so that the bits of an example do not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["PASS_ROWS", "NarrowPasses", "padded"]

PASS_ROWS = 32
"""Forward passes are padded to a multiple of this many rows, but for those that :class:`NarrowPasses` allows.

Matrix kernels take other paths for a last few rows, and those round differently: padded, the logits and gradients of
an example are the same bits in every batch, so that results do not depend on the batch size. For linear, convolutional
and residual networks on CPU a multiple of 4 suffices. Element-wise kernels (SiLU, Mish, Softplus, GELU, ELU, Sigmoid)
go through all values of a tensor in blocks of up to 32 and compute the rest one by one, by another formula: with a
multiple of 32 rows there is no rest, whatever the width. Several threads cut a tensor of more than 32,768 values
elsewhere; there the last bit of such an activation may still depend on the batch. (What else it takes:
benchmark/__init__.py.)
"""

STEP = 4
"""Narrow passes have a multiple of this many rows."""

EXACT = frozenset({
    "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward", "_to_copy", "_unsafe_view", "abs", "add", "add_",
    "addmm", "alias", "avg_pool2d", "avg_pool2d_backward", "bmm", "cat", "clamp", "clone", "constant_pad_nd",
    "convolution", "convolution_backward", "copy_", "detach", "div", "empty", "empty_like", "expand", "fill_", "full",
    "hardtanh", "hardtanh_backward", "leaky_relu", "leaky_relu_backward", "linspace", "max_pool2d_with_indices",
    "max_pool2d_with_indices_backward", "maximum", "mean", "minimum", "mm", "mul", "native_batch_norm",
    "native_batch_norm_backward", "neg", "new_zeros", "ones", "permute", "relu", "relu_", "select", "select_backward",
    "slice", "slice_backward", "squeeze", "sub", "sum", "t", "threshold_backward", "transpose", "unsqueeze", "view",
    "where", "zeros", "zeros_like",
})  # fmt: skip
"""Operators that round each value by itself, copy, or sum in an order that shows in the bits of many values at once.

What is not here may treat the last few values of a tensor by another formula, which a test of some rows can miss.
"""


def padded(x: Tensor, rows: int | None = None) -> Tensor:
    """`x` (B, ...) with its last row repeated up to `rows` rows, by default to a multiple of PASS_ROWS."""
    missing = -len(x) % PASS_ROWS if rows is None else rows - len(x)
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing and len(x) else x


class NarrowPasses:
    """Passes of fewer than PASS_ROWS rows in which a module gives each row the bits that it has in a full one.

    On the CPU a module may be asked in a multiple of four rows where all of its operators, forward and backward, are
    among EXACT, and where scores and gradients of random inputs in that many rows are the bits of a pass of PASS_ROWS.
    Kernels are chosen by shapes alone, so that one comparison decides for all inputs; it is made once per process
    for each list of operators and shapes, the first time that so few rows are asked about.
    """

    _compared: dict[tuple[object, ...], bool] = {}  # noqa: RUF012 - shared: what one system showed holds for its copies

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._same: dict[tuple[object, ...], bool] = {}
        self._operators: dict[tuple[object, ...], tuple[object, ...] | None] = {}

    def rows(self, x: Tensor) -> int:
        """Rows that a pass for `x` (B, *S) has."""
        full = len(x) + -len(x) % PASS_ROWS
        narrow = len(x) + -len(x) % STEP
        if not 0 < narrow < PASS_ROWS or x.device.type != "cpu" or x.dtype != torch.float32:
            return full
        place = (x.shape[1:], torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
        if (place, narrow) not in self._same:
            self._same[place, narrow] = self._compare(place, narrow)
        return narrow if self._same[place, narrow] else full

    def _compare(self, place: tuple[Sequence[int], int, bool], rows: int) -> bool:
        """True if a pass of `rows` rows gives the bits of a full one, in a process set up as `place` says."""
        shape = place[0]
        if place not in self._operators:
            self._operators[place] = self._recorded(shape)
        operators = self._operators[place]
        if operators is None:
            return False
        key = (operators, *place[1:], rows)
        if key not in self._compared:
            x = torch.rand(PASS_ROWS, *shape, generator=torch.Generator().manual_seed(0))
            answers = zip(self._answers(x[:rows]), self._answers(x), strict=True)
            self._compared[key] = all(torch.equal(few, many[:rows]) for few, many in answers)
        return self._compared[key]

    def _recorded(self, shape: Sequence[int]) -> tuple[object, ...] | None:
        """Operators of a pass with their shapes; None if one is not exact, or no gradient leads to the input."""
        try:
            with _Recording() as recording:
                slope = self._answers(torch.full((STEP, *shape), 0.5))[-1]
        except Exception:  # what a system cannot answer is said where it is asked in earnest
            return None
        return tuple(recording.calls) if slope.numel() and recording.names <= EXACT else None

    def _answers(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of `x` (B, *S) without and with a graph, and the gradient (B, *S) of weighted scores, or nothing."""
        with torch.no_grad():
            plain = self.module(x.clone())
        leaf = x.clone().requires_grad_(True)
        with torch.enable_grad(), saved_tensors_hooks(_as_it_is, _as_it_is):  # unseen by those who watch for a graph
            scores = self.module(leaf.clone())
        weights = torch.linspace(-1.0, 1.0, scores[0].numel()).reshape(scores.shape[1:]).expand_as(scores)
        slope = None
        if scores.requires_grad:
            (slope,) = torch.autograd.grad(scores, leaf, weights, allow_unused=True)
        return plain, scores.detach(), torch.empty(0) if slope is None else slope


class _Recording(TorchDispatchMode):
    """Notes the operators that run inside, with the shapes and types of their tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()
        self.calls: list[object] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        self.names.add("batch statistics" if name == "native_batch_norm" and args[5] else name)
        self.calls.append((str(func), *map(_described, args)))
        return func(*args, **(kwargs or {}))


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _described(value: object) -> object:
    """What of an operator's argument may decide its kernel, hashable."""
    return (tuple(value.shape), value.dtype, value.stride()) if isinstance(value, Tensor) else repr(value)
