"""Rules for metrics: each measures synthetic outcomes, including extreme and empty ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from benchmark.api import Measurement, Metric
from benchmark.records.outcomes import NORMS, Outcomes
from benchmark.records.record import MetricValue
from benchmark.tasks.detection import Detection
from benchmark.tasks.task import CLASSIFICATION
from benchmark.testing.rule import demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import tasks_of


def outcomes(count: int = 20, *, correct: float = 0.8, broken: float = 0.5, valid: float = 0.9) -> Outcomes:
    """Synthetic, consistent outcomes; the shares are of all, of the attacked and of the attacked examples."""
    draw = torch.Generator().manual_seed(0)

    def share(part: float) -> Tensor:
        return torch.rand(count, generator=draw) < part

    y = torch.arange(count) % 10
    right = share(correct)
    allowed = share(valid) | ~right
    fell = share(broken) & right & allowed
    size = torch.where(fell, torch.rand(count, generator=draw), torch.inf)
    refused = torch.where(right, False, share(0.5)), right & ~fell & allowed & share(0.3)
    clean, adv = (torch.where(r, 1.0, -1.0) * (0.1 + torch.rand(count, generator=draw)) for r in refused)
    adv = torch.where(right, adv, clean)
    passes = torch.where(right, torch.randint(1, 50, (count,), generator=draw), 0)
    return Outcomes(
        ids=torch.arange(count) * 3,
        y=y,
        clean_label=torch.where(clean > 0, -1, torch.where(right, y, (y + 1) % 10)),
        adv_label=torch.where(adv > 0, -1, torch.where(right & ~fell, y, (y + 1) % 10)),
        clean_correct=right,
        clean_top5=right | share(0.5),
        attacked=right,
        valid=allowed,
        adversarial=fell,
        broken=fell,
        robust_top5=right & ~(fell & share(0.5)),
        **dict.fromkeys(NORMS, size),
        excess=torch.where(allowed, 0.0, 0.01),
        forwards=passes,
        backwards=passes // 2,
        zero_gradient=torch.zeros(count, dtype=torch.bool),
        bad_gradient=torch.zeros(count, dtype=torch.bool),
        certified=torch.zeros(count),
        confidence=0.3 + 0.7 * torch.rand(count, generator=draw),
        clean_predicted=torch.where(right, y, (y + 1) % 10),
        adv_predicted=torch.where(right & ~fell & ~refused[1], y, (y + 1) % 10),
        clean_suspicion=clean,
        adv_suspicion=adv,
    )


def _cell(metric: Metric, count: int = 20, **shares: float) -> Outcomes:
    """Synthetic outcomes of a task that the metric declares."""
    cell, task = outcomes(count, **shares), tasks_of(metric)[0]
    if task == CLASSIFICATION:
        return cell
    draw = torch.Generator().manual_seed(1)
    truth = torch.randint(-1, 4, (count, 9), generator=draw)
    answers = [torch.where(torch.rand(count, 9, generator=draw) < 0.7, truth.clamp_min(0), 3) for _ in range(2)]
    sites = [truth, *answers]
    if task == Detection.name:
        corner = torch.randint(0, 9, (count, 9, 2), generator=draw)
        boxes = torch.cat([corner, corner + 4], 2)
        sites = [torch.cat([truth.clamp_min(0)[..., None], boxes], 2), *(_detected(a, boxes, draw) for a in answers)]
    kinds = (torch.int16, *[torch.float32 if task == Detection.name else torch.int16] * 2)
    names = ("sites", "clean_sites", "adv_sites")
    return dataclasses.replace(cell, **{n: v.to(k) for n, v, k in zip(names, sites, kinds, strict=True)})


def _detected(label: Tensor, boxes: Tensor, draw: torch.Generator) -> Tensor:
    """Detections of `label` (N, S) near `boxes` (N, S, 4), with scores, (N, S, 6)."""
    score = torch.rand(*label.shape, 1, generator=draw)
    return torch.cat([label[..., None].float(), score, boxes + torch.rand(boxes.shape, generator=draw)], 2)


def _situations(metric: Metric) -> Iterator[tuple[str, Outcomes]]:
    yield "an ordinary cell", _cell(metric)
    yield "no examples", _cell(metric, 0)
    yield "one example", _cell(metric, 1, correct=1.0, broken=1.0, valid=1.0)
    yield "nothing broken", _cell(metric, broken=0.0)
    yield "everything broken", _cell(metric, correct=1.0, broken=1.0, valid=1.0)
    yield "nothing correct, so nothing attacked", _cell(metric, correct=0.0)
    yield "no valid candidate", _cell(metric, valid=0.0)


def gives_named_measurements(metric: Metric) -> None:
    """Measurements have names, units and directions, and the same names for every cell."""
    usual = metric.measure(_cell(metric))
    demand(usual, "nothing is measured in an ordinary cell")
    for m in usual:
        demand(isinstance(m, Measurement), f"compute() returned {type(m).__name__}; expected benchmark.api.Measurement")
        demand(isinstance(m.name, str) and m.name, f"a measurement is named {m.name!r}; expected a name")
        demand(isinstance(m.unit, str) and m.unit, f"{m.name} has no unit; expected a word such as 'share' or 'passes'")
        demand(
            m.higher_is_better is None or isinstance(m.higher_is_better, bool),
            f"{m.name}.higher_is_better is {m.higher_is_better!r}; expected True, False or None",
        )
    names = [m.name for m in usual]
    demand(len(set(names)) == len(names), f"names are repeated: {', '.join(names)}")
    for what, cell in _situations(metric):
        now = [m.name for m in metric.measure(cell)]
        demand(now == names, f"with {what} the measurements are {', '.join(now)}; expected {', '.join(names)}")


def gives_numbers_or_none(metric: Metric) -> None:
    """Values and intervals are finite floats, or None where nothing can be measured: never NaN, never strings."""
    for what, cell in _situations(metric):
        for m in metric.measure(cell):
            for part, value in (("value", m.value), ("low", m.low), ("high", m.high)):
                number = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
                demand(number, f"with {what}, {m.name}.{part} is {value!r}; expected a float or None")
            try:
                MetricValue(**dataclasses.asdict(m))
            except ValidationError as error:
                raise AssertionError(
                    f"with {what}, {m.name} cannot be stored in a record: {error.errors()[0]['msg']}; give None where "
                    "nothing can be measured"
                ) from error


def has_its_value_in_its_interval(metric: Metric) -> None:
    """low <= value <= high, where they are given."""
    for what, cell in _situations(metric):
        for m in metric.measure(cell):
            low = m.value is None or m.low is None or m.low <= m.value + 1e-12
            high = m.value is None or m.high is None or m.value <= m.high + 1e-12
            demand(low and high, f"with {what}, {m.name} is {m.value}, outside its interval [{m.low}, {m.high}]")
            lost = m.value is None and (m.low is not None or m.high is not None) and len(cell) == 0
            demand(not lost, f"with {what}, {m.name} has an interval but no value")


def adds_up_over_batches(metric: Metric) -> None:
    """Two updates give the result of one: the state is kept per example or as sums."""
    cell = _cell(metric)
    built: Any = metric.build()
    for rows in (slice(0, 7), slice(7, None)):
        built.update(Outcomes(**{name: value[rows] for name, value in cell.tensors().items()}))
    for one, two in zip(metric.measure(cell), list(built.compute()), strict=True):
        for part in ("value", "low", "high"):
            a, b = getattr(one, part), getattr(two, part)
            same = a == b or (a is not None and b is not None and abs(a - b) <= 1e-6 * max(1.0, abs(a)))
            demand(
                same,
                f"{one.name}.{part} is {a} in one update and {b} in two; accumulate sums instead of averaging averages",
            )


@leaving_the_process_alone
def leaves_outcomes_alone(metric: Metric) -> None:
    """The outcomes are not changed, and measuring twice gives the same result."""
    cell, before = _cell(metric), _cell(metric)
    one, two = metric.measure(cell), metric.measure(cell)
    for name, value in cell.tensors().items():
        demand(torch.equal(value, before.tensors()[name]), f"{name} of the outcomes was changed in place")
    demand(one == two, "measuring twice gave other numbers; build() must give a fresh metric")


RULES = rules_of(
    gives_named_measurements,
    gives_numbers_or_none,
    has_its_value_in_its_interval,
    adds_up_over_batches,
    leaves_outcomes_alone,
)
