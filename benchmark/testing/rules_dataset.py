"""Rules for datasets: those with available files are read; the others are skipped with the reason."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmark.api import Dataset
from benchmark.data import Examples, Splits
from benchmark.errors import ConfigError, DataError
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import global_state, same_state, seeded

DATA_FOLDER = "BENCHMARK_DATA"
"""Environment variable with the folder of the data files; default: `data`."""


def _root() -> Path:
    return Path(os.environ.get(DATA_FOLDER, "data"))


def _load(dataset: Dataset) -> Splits:
    try:
        return dataset.load(_root(), offline=True)
    except (DataError, ConfigError) as error:
        raise Inapplicable(str(error)) from error


@functools.lru_cache(maxsize=1)
def _loaded(dataset: Dataset) -> Splits:
    return _load(dataset)


def _splits(dataset: Dataset) -> Iterator[tuple[str, Examples]]:
    splits = _loaded(dataset)
    yield from (("train", splits.train), ("select", splits.select), ("test", splits.test))


def _some(part: Examples) -> torch.Tensor:
    """Positions at both ends."""
    ends = torch.cat([torch.arange(min(32, len(part))), torch.arange(max(0, len(part) - 32), len(part))])
    positions: torch.Tensor = ends.unique()
    return positions


def has_disjoint_splits(dataset: Dataset) -> None:
    """No example is in two splits, and no split is empty."""
    seen: set[int] = set()
    for name, part in _splits(dataset):
        demand(len(part) > 0, f"the {name} split is empty")
        ids = set(part.ids.tolist())
        demand(len(ids) == len(part), f"the {name} split has {len(part) - len(ids)} repeated ids")
        demand(not ids & seen, f"{len(ids & seen)} examples of the {name} split are in another split too")
        seen |= ids


def has_values_in_the_unit_box(dataset: Dataset) -> None:
    """Inputs are float32 in [0, 1], with the declared shape."""
    spec = _loaded(dataset).spec
    for name, part in _splits(dataset):
        x = part.x(_some(part))
        demand(
            tuple(x.shape[1:]) == spec.shape,
            f"{name}: an example has the shape {tuple(x.shape[1:])}; expected that of the spec, {spec.shape}",
        )
        demand(x.dtype == torch.float32, f"{name}: inputs are {x.dtype}; expected float32")
        low, high = float(x.min()), float(x.max())
        demand(low >= 0.0 and high <= 1.0, f"{name}: values from {low:.4g} to {high:.4g}; scale them to [0, 1]")


def has_labels_in_range(dataset: Dataset) -> None:
    """Labels and ids are int64; labels lie in 0..classes-1, and the train split has more than one."""
    splits = _loaded(dataset)
    for name, part in _splits(dataset):
        for what, values in (("ids", part.ids), ("labels", part.y)):
            demand(values.dtype == torch.int64, f"{name}: {what} are {values.dtype}; expected int64")
        labels = part.y[..., 0] if part.y.ndim == 3 else part.y
        least = splits.spec.task.least_label(splits.spec.classes)
        inside = bool(((labels >= least) & (labels < splits.spec.classes)).all())
        demand(inside, f"{name}: labels outside {least}..{splits.spec.classes - 1}")
        sites = splits.spec.task.answer_shape(len(part), splits.spec.shape, 1)[:-1]
        demand(
            tuple(labels.shape) == sites, f"{name}: labels have the shape {tuple(labels.shape)}; the task needs {sites}"
        )
    demand(
        {splits.spec.task.name} == dataset.tasks, f"the data are for {splits.spec.task.name}; declare that in `tasks`"
    )
    demand(len(splits.train.y.unique()) > 1, "the train split has a single label")
    names = splits.spec.class_names
    demand(len(names) in (0, splits.spec.classes), f"{len(names)} class names for {splits.spec.classes} classes")


def has_a_usable_normalisation(dataset: Dataset) -> None:
    """mean and std have one value, or one per channel or feature, and no std is zero."""
    spec = _loaded(dataset).spec
    for what, values in (("mean", spec.mean), ("std", spec.std)):
        demand(len(values) in (1, spec.shape[0]), f"{what} has {len(values)} values; expected 1 or {spec.shape[0]}")
    demand(all(s > 0 for s in spec.std), "a std is zero: models would divide by it")


@leaving_the_process_alone
def loads_the_same_again(dataset: Dataset) -> None:
    """Loading twice gives the same examples, and draws nothing from global generators."""
    with seeded(0):
        before = global_state()
        again = _load(dataset)
        same = same_state(before, global_state())
    demand(same, "loading drew from a global generator; use a generator of your own")
    for (name, one), two in zip(_splits(dataset), (again.train, again.select, again.test), strict=True):
        demand(one.digest() == two.digest(), f"the {name} split differs after loading again")
        at = _some(one)
        demand(torch.equal(one.x(at), two.x(at)), f"inputs of the {name} split differ after loading again")


def reads_in_any_order(dataset: Dataset) -> None:
    """An input does not depend on the positions read with it, or on their order."""
    for name, part in _splits(dataset):
        at = _some(part)
        demand(
            torch.equal(part.x(at.flip(0)), part.x(at).flip(0)), f"{name}: reading in another order gives other inputs"
        )


def has_a_stable_revision(dataset: Dataset) -> None:
    """The revision is a non-empty text that does not change while the content does not."""
    _loaded(dataset)
    one, two = dataset.revision(_root()), dataset.revision(_root())
    demand(isinstance(one, str) and one != "", f"the revision is {one!r}; expected a checksum")
    demand(one == two, "the revision changes although the content did not")


RULES = rules_of(
    has_disjoint_splits,
    has_values_in_the_unit_box,
    has_labels_in_range,
    has_a_usable_normalisation,
    loads_the_same_again,
    reads_in_any_order,
    has_a_stable_revision,
)
