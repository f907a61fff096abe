"""The bits of a row do not depend on the other rows of its batch, for every activation that torch has."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from benchmark.data import DataSpec
from benchmark.sampling import SampleRandom
from benchmark.system import PASS_ROWS, System, padded
from benchmark.system.rows import NarrowPasses
from benchmark.system.target import Target

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


class Residual(nn.Module):
    """A network with a residual block, batch normalisation and pooling, for images of 8x8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first((x - 0.5) / 0.3)
        scores: Tensor = self.head(torch.relu(self.second(h) + h))
        return scores


class Wrapped(nn.Module):
    """A linear classifier whose answers go through a function."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.change = nn.Linear(64, 10), change

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(x.flatten(1))
        return self.change(scores)


class Seen(nn.Module):
    """Notes how many rows each pass has."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.rows = inner, [0]

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        scores: Tensor = self.inner(x)
        return scores


class SeededByCopying(Residual):
    """Draws a seed when it is copied, as models of Keras do for their initialisers."""

    def __deepcopy__(self, _: dict[int, Any]) -> SeededByCopying:
        random.random()
        made = SeededByCopying().train(self.training)
        made.load_state_dict(self.state_dict())
        return made


NARROW = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    "ReLU": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 33), nn.ReLU(), nn.Linear(33, 7)),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    ),
    "residual": Residual,
}


def _hooked(model: nn.Module) -> nn.Module:
    model.register_forward_hook(lambda _, __, scores: torch.sigmoid(scores))
    return model


FULL = {
    "a smooth activation": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 33), nn.GELU(), nn.Linear(33, 10)),
    "a smooth function": lambda: Wrapped(torch.nn.functional.silu),
    "rows that depend on each other": lambda: Wrapped(lambda scores: scores - scores.mean(0)),
    "rounding by the number of rows": lambda: Wrapped(lambda scores: scores * (1.0 + 1e-6 * (len(scores) < 30))),
    "no gradient": lambda: Wrapped(lambda scores: scores.detach()),
    "another library": lambda: Wrapped(lambda scores: torch.from_numpy(scores.detach().numpy() * 2)),
    "batch statistics": lambda: Residual().train(),
    "a hook": lambda: _hooked(NARROW["linear"]()),
}


def _system(model: nn.Module) -> System:
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.BatchNorm2d):
            layer.reset_parameters()
    training = model.training
    system = System(model.eval(), DataSpec((1, 8, 8), 10))
    model.train(training)
    return system


@pytest.mark.parametrize("name", NARROW)
def test_few_rows_take_a_narrow_pass_with_the_same_bits(name: str) -> None:
    model = Seen(NARROW[name]()).eval()
    system = _system(model)
    x = torch.rand(PASS_ROWS, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    rng = SampleRandom(0, torch.arange(PASS_ROWS))
    value = system.logits(x, rng)
    for count in (1, 3, 4, 6, 8, 13, 16, 20, 28, 29):
        some = torch.arange(count)
        assert torch.equal(system.logits(x[:count], rng.rows(some)), value[:count]), count
        assert model.rows[-1] == -(-count // 4) * 4


def _same_bits(model: nn.Module, x: torch.Tensor, count: int) -> bool:
    """True if the bare model gives `count` rows the scores and gradients, bit for bit, that it gives them among all."""
    found = []
    for rows in (x[:count], x):
        leaf = rows.clone().requires_grad_(True)
        scores = model(leaf)
        (slope,) = torch.autograd.grad((scores * torch.arange(1.0, 1.0 + scores.shape[1])).sum(), leaf)
        found.append(torch.cat([scores.detach().flatten(1), slope.flatten(1)], 1)[:count])
    return torch.equal(*found)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("count", [3, 13, 45])
def test_a_number_of_rows_that_is_asked_for_often_is_not_padded(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.system.rows.FEWEST_TRIALS", 1)  # or it would have to be asked for more often
    monkeypatch.setattr("benchmark.system.rows.MOST_TRIALS", 1)
    monkeypatch.setattr("benchmark.system.rows.WEIGHT_SIZES", 1)
    model = Seen(NARROW[name]()).eval()
    system = _system(model)
    x = torch.rand(2 * PASS_ROWS, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    whole, _ = _asked(system, x)
    narrow = _same_bits(model, x, count)  # which depends on the processor
    for _ in range(20):
        model.rows.clear()
        some, _ = _asked(system, x[:count])
        for one, other in zip(some, whole, strict=True):
            assert torch.equal(one, other[:count])
    assert set(model.rows) == {count} if narrow else max(model.rows) > count


@pytest.mark.parametrize(("width", "classes"), [(5, 1), (6, 1), (30, 1), (100, 1), (30, 2), (64, 3)])
def test_no_number_of_rows_is_used_whose_bits_are_the_same_only_by_chance(width: int, classes: int) -> None:
    """Passes of some numbers of rows differ from a full one in few values only; these were taken for equal by luck."""
    torch.manual_seed(0)
    model = nn.Linear(width, classes)
    x = 3 * torch.randn(6400, width)
    whole = model(x)
    for count in (1, 2, 3, 5, 6, 7, 13, 14, 15):
        narrow = NarrowPasses(model)
        for _ in range(6000):
            rows = narrow.rows(x[:count], followed=False)
        parts = torch.cat([model(part) for part in x[: len(x) - len(x) % rows].split(rows)])
        assert torch.equal(parts, whole[: len(parts)]), (count, rows)


@pytest.mark.parametrize(("hidden", "classes"), [(16, 2), (8, 3), (32, 10)])
def test_gradients_of_a_network_of_one_feature_are_those_of_a_full_pass(hidden: int, classes: int) -> None:
    """It has few pieces, and so few gradients: with one draw of its weights they were equal by chance."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    x = torch.rand(640, 1)

    def slopes(part: Tensor) -> Tensor:
        leaf = part.clone().requires_grad_(True)
        scores: Tensor = model(leaf)
        return torch.autograd.grad((scores * torch.arange(1.0, 1.0 + classes)).sum(), leaf)[0]

    for count in (2, 3, 5, 6, 33, 41):
        narrow = NarrowPasses(model)
        for _ in range(6000):
            rows = narrow.rows(x[:count], followed=True)
        for other in range(4):
            torch.manual_seed(other)
            for weight in model.parameters():
                nn.init.uniform_(weight, -0.5, 0.5)
            whole = slopes(x)
            parts = torch.cat([slopes(part) for part in x[: len(x) - len(x) % rows].split(rows)])
            assert torch.equal(parts, whole[: len(parts)]), (count, rows)


@pytest.mark.parametrize("width", [64, 100])
def test_weights_of_zero_say_nothing_about_other_weights(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    for weight in (0.0, 0.1):
        monkeypatch.setattr(NarrowPasses, "_compared", {})
        model = nn.Linear(width, 1)
        nn.init.constant_(model.weight, weight)
        narrow = NarrowPasses(model)
        chosen.append([narrow.rows(torch.rand(3, width), followed=False) for _ in range(1000)][-1])
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("name", [name for name in NARROW if name != "linear"])  # it keeps nothing to go backward
def test_the_last_rows_take_a_pass_of_their_own_where_it_costs_less_than_padding(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Seen(NARROW[name]()).eval()
    x = torch.rand(37, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    whole, paid = _asked(_system(model), x)
    assert set(model.rows[1:]) == {64}
    model.rows.clear()
    monkeypatch.setattr("benchmark.system.rows.WORTH_A_PASS", 1)
    cut, also = _asked(_system(model), x)
    assert set(model.rows) == {32, 8}
    assert paid == also
    for one, other in zip(whole, cut, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", FULL)
def test_a_pass_stays_wide_where_few_rows_could_change_a_bit(name: str) -> None:
    system = _system(FULL[name]())  # type: ignore[no-untyped-call]
    for count in (1, 4, 9, 28) * 20:
        assert system.rows_of_a_pass(torch.rand(count, 1, 8, 8)) == PASS_ROWS, count
    assert system.rows_of_a_pass(torch.rand(33, 1, 8, 8)) == 2 * PASS_ROWS


def _asked(system: System, x: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
    """All that a target answers about `x` (B, *S), and the passes that it charged for it."""
    rng, y = SampleRandom(0, torch.arange(len(x))), torch.arange(len(x)) % 7
    target = Target(system, rng=rng, classes=10)
    scores, pull = target.pullback(x)
    several = pull(torch.eye(scores.shape[1])[:3].expand(len(x), 3, -1))
    asked = target.gradient(x, lambda scores: torch.nn.functional.cross_entropy(scores, y, reduction="none"))
    answers = [system.logits(x, rng), target.logits(x), scores, pull(scores), several, *asked]
    return answers, (int(target.ledger.forwards.sum()), int(target.ledger.backwards.sum()))


@pytest.mark.parametrize("name", NARROW)
def test_a_large_pass_is_cut_into_pieces_with_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Seen(NARROW[name]()).eval()
    x = torch.rand(150, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    whole, paid = _asked(_system(model), x)
    assert set(model.rows[1:]) == {160}
    model.rows.clear()
    monkeypatch.setattr("benchmark.system.rows.WORKING_SET", 1)
    cut, also = _asked(_system(model), x)
    assert set(model.rows) == ({160} if name == "linear" else {64, 24})  # a linear layer keeps nothing
    assert paid == also == (3 * 150, 5 * 150)
    for one, other in zip(whole, cut, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", FULL)
def test_a_pass_is_whole_where_a_piece_could_change_a_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.system.rows.WORKING_SET", 1)
    monkeypatch.setattr("benchmark.system.rows.WORTH_A_PASS", 1)
    assert _system(FULL[name]()).cut(torch.rand(500, 1, 8, 8)) == [500]  # type: ignore[no-untyped-call]


def test_a_module_that_notes_its_passes_notes_none_that_are_only_tried() -> None:
    model = Seen(NARROW["convolution"]()).eval()
    system = _system(model)
    assert system.rows_of_a_pass(torch.rand(3, 1, 8, 8)) in {3, 4}
    assert model.rows == [0]


def test_trying_narrow_passes_leaves_generators_and_statistics_alone() -> None:
    before = torch.get_rng_state()
    system = _system(SeededByCopying().eval())
    after, state = torch.get_rng_state(), random.getstate()
    kept = {name: value.clone() for name, value in system.state_dict().items()}
    assert system.rows_of_a_pass(torch.rand(2, 1, 8, 8, generator=torch.Generator())) in {2, 4}
    assert torch.equal(torch.get_rng_state(), after)
    assert random.getstate() == state
    assert all(torch.equal(kept[name], value) for name, value in system.state_dict().items())
    torch.set_rng_state(before)
