"""Rows of a pass: how a batch is padded and cut, so that the bits of an example do not depend on its batch."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from benchmark.guard.generators import generators_now, set_generators

__all__ = ["PASS_ROWS", "NarrowPasses", "padded", "rounded_up"]

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
"""Narrow passes are tried at first with a multiple of this many rows."""

FEWEST_TRIALS, MOST_TRIALS = 8, 512
"""Fewest passes that are compared before a number of rows is used, and as many as are where a row has one value.

Values are the scores or the gradient of a row, whichever are fewer. Kernels for the rest of the rows differ from those
of a full pass in a single value with a probability of 0.12 at least (sums of six terms; 0.6 from sixteen terms on), and
a network of one feature has few gradients that differ, so that one comparison of a few values proves nothing.
"""

WEIGHT_SIZES = 3
"""Sizes of random weights that are tried, so that no constant of a network hides a difference."""

MANY_KEPT = 80_000
"""Bytes kept per row from which one full pass tells whether a multiple of STEP rows gives its bits."""

NEVER_CUT = 64
"""Passes are cut into pieces of a multiple of this many rows, but for the rest."""

WORTH_A_PASS = 320 << 10
"""Bytes, kept for the backward pass by rows of padding, that make a pass of its own for the last rows worth its cost.

Measured on one core: 7 rows of LeNet on 28x28 and 2 of a ResNet on 32x32, which take longer than what a further pass
costs whatever its rows; no number of rows of small_cnn on 8x8.
"""

WORKING_SET = 12 << 20
"""Bytes of values kept for the backward pass, per thread, beyond which a pass is cut.

Measured on one core with 1 MiB of second-level cache, gradients in pieces against one pass: LeNet on 28x28, 1,024 rows,
0.66 in pieces of 128 and 0.74 of 256 (11.6 MiB), but 256 rows 1.04 of 128; small_cnn on 32x32, 512 rows, 0.52 of 64
(10.8 MiB); small_cnn on 8x8, 1,024 rows (10.7 MiB), 1.13 of 576.
"""

EXACT = frozenset({
    "Abs", "Add", "Addmm", "AdaptiveAvgPool2D", "AvgPool2D", "Bmm", "Cat", "Clamp", "Clone", "ConstantPadNd",
    "Convolution", "Div", "Expand", "Hardtanh", "LeakyRelu", "MaxPool2DWithIndices", "Maximum", "Mean", "Minimum",
    "Mm", "Mul", "NativeBatchNorm", "Neg", "Permute", "Relu", "Select", "Slice", "Squeeze", "Sub", "Sum", "T",
    "Threshold", "Transpose", "UnsafeView", "Unsqueeze", "View", "Where",
})  # fmt: skip
"""Operators by the names of a graph: they round each value alone, copy, or sum in an order that shows in many bits.

What is not here may treat the last few values of a tensor by another formula, which a test of some rows can miss.
"""


def rounded_up(count: int, step: int = PASS_ROWS) -> int:
    """Smallest multiple of `step` that is at least `count`."""
    return count + -count % step


def padded(x: Tensor, rows: int | None = None) -> Tensor:
    """`x` (B, ...) with its last row repeated up to `rows` rows, by default to a multiple of PASS_ROWS."""
    missing = (rounded_up(len(x)) if rows is None else rows) - len(x)
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing and len(x) else x


Place = tuple[Sequence[int], int, bool]
"""Shape of an input, number of threads, and whether only deterministic algorithms are used."""


def _place(x: Tensor) -> Place:
    return tuple(x.shape[1:]), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()


class MadeOf(NamedTuple):
    """Layers, shapes and types of weights, operators and kept shapes of the graph.

    kept_bytes: that a pass keeps for its backward pass per row. values: scores or features, whichever are fewer.
    """

    layers: str
    weights: tuple[object, ...]
    operators: tuple[str, ...]
    kept: tuple[tuple[int, ...], ...]
    kept_bytes: int
    values: int


class NarrowPasses:
    """Passes of fewer rows than full ones in which a module gives each row the bits that it has in a full one.

    On the CPU a module without hooks may be asked in fewer rows where all operators of its graph are among EXACT, and
    where scores and gradients of random inputs in that many rows are the bits of a full pass; where the gradients alone
    differ, passes that none follows may still be narrow. Kernels are chosen by shapes alone, so that comparisons decide
    for all inputs and weights. They are made with random weights, since with weights of zero any kernel gives the same,
    and once per process for all modules of the same layers, shapes and operators; a copy of the module answers, so that
    one that notes its passes notes none of these. The global random generators are restored afterwards, since an attack
    may be running, and making a copy of a Keras model seeds its layers anew.

    A multiple of four rows is compared the first time that so few rows are asked about, another number of rows once it
    has been asked for so often that this pays.
    """

    _compared: dict[tuple[object, ...], tuple[bool, bool]] = {}  # noqa: RUF012 - shared: holds for copies of a system

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._chosen: dict[tuple[object, ...], int] = {}
        self._asked: Counter[tuple[object, ...]] = Counter()
        self._known: dict[Place, MadeOf | None] = {}

    def cut(self, x: Tensor) -> list[int]:
        """Numbers of rows of the passes that `x` (B, *S) is computed in: one, or several that fit the caches.

        The last rows take a pass of their own where padding them to a full one would cost more. Cut only on the CPU,
        where all operators are among EXACT. As no bit depends on the batch, nothing else changes.
        """
        if len(x) <= PASS_ROWS or x.device.type != "cpu" or x.dtype != torch.float32:
            return [len(x)]
        made_of = self._made_of(_place(x))
        if made_of is None or not made_of.kept_bytes:
            return [len(x)]
        fit = torch.get_num_threads() * WORKING_SET // made_of.kept_bytes
        size = max(NEVER_CUT, fit - fit % NEVER_CUT)
        sizes = [size] * (len(x) // size)
        last, rest = len(x) % size, len(x) % PASS_ROWS
        if (PASS_ROWS - rounded_up(rest, STEP)) * made_of.kept_bytes >= WORTH_A_PASS:
            sizes += [last - rest, rest]
        else:
            sizes.append(last)
        return [rows for rows in sizes if rows]

    def rows(self, x: Tensor, *, followed: bool) -> int:
        """Rows that a pass for `x` (B, *S) has. followed: True if a gradient follows the pass."""
        count, full = len(x), rounded_up(len(x))
        if count in (0, full) or x.device.type != "cpu" or x.dtype != torch.float32:
            return full
        place = _place(x)
        asked = (*place, count, followed)
        self._asked[asked] += 1
        known = self._chosen.get(asked)
        if known is None:
            rows = rounded_up(count, STEP) if count <= PASS_ROWS - STEP else full
            self._chosen[asked] = rows if rows < full and self._same(place, rows)[followed] else full
        elif known > count and self._asked[asked] == self._pays(place, count, known):
            self._chosen[asked] = count if self._same(place, count)[followed] else known
        return self._chosen[asked]

    def _pays(self, place: Place, count: int, known: int) -> int | None:
        """Requests for `count` rows, in passes of `known`, that make a comparison worth it; None for never."""
        made_of = self._made_of(place)
        return None if made_of is None else 1 + 2 * rounded_up(count) * _full_passes(count, made_of) // (known - count)

    def _same(self, place: Place, rows: int) -> tuple[bool, bool]:
        """True if a pass of `rows` rows gives the scores of a full one, and if also the gradients, bit for bit."""
        made_of = self._made_of(place)
        if made_of is None:
            return False, False
        key = (made_of, place, rows)
        if key not in self._compared:
            generators = generators_now()
            try:
                passes = _full_passes(rows, made_of)
                self._compared[key] = _compare(copy.deepcopy(self.module), place[0], rows, passes)
            except Exception:  # errors of a system are reported where its answer is needed
                return False, False
            finally:
                set_generators(generators)
        return self._compared[key]

    def _made_of(self, place: Place) -> MadeOf | None:
        """Composition of the module for inputs of the shape that `place` begins with; see :meth:`_recorded`."""
        if place not in self._known:
            generators = generators_now()
            try:
                self._known[place] = self._recorded(place[0])
            except Exception:  # errors of a system are reported where its answer is needed
                self._known[place] = None
            finally:
                set_generators(generators)
        return self._known[place]

    def _recorded(self, shape: Sequence[int]) -> MadeOf | None:
        """Composition of the module; None if an operator is not exact, or no gradient reaches the input."""
        if any(each._forward_hooks or each._forward_pre_hooks for each in self.module.modules()):
            return None
        leaf = torch.full((STEP, *shape), 0.5, requires_grad=True)
        kept: list[tuple[int, ...]] = []
        sizes: dict[int, int] = {}

        def noted(tensor: Tensor) -> Tensor:
            kept.append(tuple(tensor.shape))
            if tensor.ndim and len(tensor) == STEP:
                sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.enable_grad(), saved_tensors_hooks(noted, _as_it_is):
            scores = copy.deepcopy(self.module)(leaf.clone())
            names = _operators(scores)
        if not names or not set(names) <= EXACT:
            return None
        shapes = [(name, tuple(value.shape), value.dtype) for name, value in self.module.state_dict().items()]
        least = min(scores[0].numel(), math.prod(shape))
        return MadeOf(repr(self.module), tuple(shapes), tuple(names), tuple(kept), sum(sizes.values()) // STEP, least)


def _full_passes(rows: int, made_of: MadeOf) -> int:
    """Full passes that passes of `rows` rows are compared with."""
    if rows % STEP == 0 and made_of.kept_bytes >= MANY_KEPT:
        return 1
    trials = max(FEWEST_TRIALS, MOST_TRIALS // made_of.values**2)
    return max(WEIGHT_SIZES, math.ceil(trials / math.ceil(rounded_up(rows) / rows)))


def _compare(model: nn.Module, shape: Sequence[int], rows: int, passes: int) -> tuple[bool, bool]:
    """True if passes of `rows` rows give the scores of full ones, and if also the gradients, bit for bit.

    Args:
        model: gets random weights. shape: of an input. passes: number of full passes.
    """
    generator = torch.Generator().manual_seed(0)
    slopes, told = True, 0
    for trial in range(passes):
        _randomise(model, generator, trial)  # anew, since a network of few pieces has few gradients
        x = 2.0 * torch.rand(rounded_up(rows), *shape, generator=generator) - 1.0
        full = _answers(model, x)
        told += bool((full[0] != full[0][:1]).any()) and bool(full[2].any())  # else equal bits prove nothing
        for first in range(0, len(x), rows):
            here = slice(min(first, len(x) - rows), min(first, len(x) - rows) + rows)
            pairs = zip(_answers(model, x[here]), full, strict=True)
            plain, scores, slope = (torch.equal(few, many[here]) for few, many in pairs)
            if not (plain and scores):
                return False, False
            slopes = slopes and slope
    return 2 * told >= passes, slopes and 2 * told >= passes


@torch.no_grad()
def _randomise(model: nn.Module, generator: torch.Generator, trial: int) -> None:
    """Replace weights by random ones that keep the size of what passes through, up to a factor of each trial.

    Every second trial has no biases. Constants and biases swallow the last bits of what is smaller than they are.
    """
    factor = 2.0 ** (7 * (trial % WEIGHT_SIZES))
    for name, weight in model.named_parameters():
        drawn = torch.rand(weight.shape, generator=generator)
        if weight.ndim > 1:
            drawn, factor = (2.0 * drawn - 1.0) * math.sqrt(6.0 / weight[0].numel()) * factor, 1.0
        elif name.endswith("bias"):
            drawn = (drawn - 0.5) * (trial % 2 == 0)
        else:
            drawn = drawn + 0.5
        weight.copy_(drawn)


def _answers(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of `x` (B, *S) without and with a graph, and the gradient (B, *S) of their weighted sum."""
    with torch.no_grad():
        plain = model(x.clone())
    leaf = x.clone().requires_grad_(True)
    with torch.enable_grad(), _unseen():
        scores: Tensor = model(leaf.clone())
        weights = torch.arange(1.0, scores[0].numel() + 1.0).sqrt().reshape(scores.shape[1:])  # not round numbers
        (slope,) = torch.autograd.grad((scores * weights).sum(), leaf)
    return plain, scores.detach(), slope


def _operators(scores: Tensor) -> list[str]:
    """Names of the operators between the scores and their leaves, nearest first; none if there is no graph."""
    names, waiting, met = [], [scores.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in met or node.name().endswith("AccumulateGrad"):
            continue
        met.add(node)
        own_statistics = getattr(node, "_saved_training", False)  # a batch normalisation by its batch
        names.append("BatchStatistics" if own_statistics else node.name().partition("Backward")[0])
        waiting.extend(before for before, _ in node.next_functions)
    return names


def _unseen() -> saved_tensors_hooks:
    """Hide the graphs made in the block from outer hooks, such as those that look for an optimisation in a pass."""
    return saved_tensors_hooks(_as_it_is, _as_it_is)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
