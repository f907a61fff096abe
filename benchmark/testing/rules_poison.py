"""Rules for poisons: they change exactly the examples that they name."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from benchmark.api import Poison
from benchmark.data import DataSpec, Examples
from benchmark.sampling import SampleRandom
from benchmark.stages.poison import corrupted
from benchmark.testing.rule import Inapplicable, demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import examples as _examples
from benchmark.testing.worlds import global_state, same_state, seeded

RATES = (0.1, 0.25)
SHAPE = (3, 8, 8)
"""Shape of an example: an image on which a wave of six periods does not vanish, as it would on six columns."""


def examples() -> tuple[Examples, DataSpec]:
    """Forty labelled images of three classes."""
    return _examples(shape=SHAPE)


def victims() -> Examples:
    """Six other images, for poisons crafted for given test inputs."""
    held_out, _ = _examples(count=6, shape=SHAPE)
    return Examples.of(held_out.ids + 10_000, 1.0 - held_out.x(), held_out.y)


def _poisoned(poison: Poison, rate: float, seed: int = 0) -> tuple[Examples, DataSpec, Examples, Tensor]:
    """Clean examples, their spec, the poisoned examples, and the ids that the poison names."""
    train, spec = examples()
    with seeded(0):
        given = examples()[0]
        rng = SampleRandom(seed, train.ids.clone())
        after, touched = corrupted(dataclasses.replace(poison, rate=rate), given, victims(), spec, rng)
    return train, spec, after, touched


def honours_the_declared_rate(poison: Poison) -> None:
    """The number of named ids matches the rate; each is unique and belongs to an example."""
    for rate in (*RATES, poison.rate):
        train, _, after, touched = _poisoned(poison, rate)
        expected = int(rate * len(train))
        demand(touched.dtype == torch.int64, f"the touched ids are {touched.dtype}; expected int64")
        demand(
            len(touched) == expected,
            f"rate {rate}: {len(touched)} examples were touched; expected {expected} of {len(train)}, rounded down",
        )
        demand(len(touched.unique()) == len(touched), f"rate {rate}: touched ids are repeated")
        demand(bool(torch.isin(touched, after.ids).all()), f"rate {rate}: touched ids that belong to no example")


def changes_only_what_it_names(poison: Poison) -> None:
    """Every example that is not named is unchanged, and was there before under the same id."""
    for rate in RATES:
        train, _, after, touched = _poisoned(poison, rate)
        place = {int(i): at for at, i in enumerate(train.ids.tolist())}
        new = [i for i in after.ids.tolist() if i not in place and i not in set(touched.tolist())]
        demand(not new, f"rate {rate}: examples {new[:3]} were added but not named")
        rest = [at for at, i in enumerate(after.ids.tolist()) if i not in set(touched.tolist())]
        old = torch.tensor([place[int(after.ids[at])] for at in rest])
        now = torch.tensor(rest)
        same_x = torch.equal(after.x(now), train.x(old))
        demand(same_x and torch.equal(after.y[now], train.y[old]), f"rate {rate}: examples were changed but not named")


def changes_something(poison: Poison) -> None:
    """The named examples differ from the clean ones."""
    train, _, after, touched = _poisoned(poison, 0.25)
    clean = {int(i): at for at, i in enumerate(train.ids.tolist())}
    now = {int(i): at for at, i in enumerate(after.ids.tolist())}
    for i in touched.tolist():
        if i in clean:
            one, two = torch.tensor([clean[i]]), torch.tensor([now[i]])
            same = torch.equal(train.x(one), after.x(two)) and torch.equal(train.y[one], after.y[two])
            demand(not same, f"example {i} is named as poisoned, but is unchanged")


def gives_valid_examples(poison: Poison) -> None:
    """Poisoned examples are valid: unique ids, labels in range, values in [0, 1]."""
    _, spec, after, _ = _poisoned(poison, 0.25)
    x = after.x()
    demand(len(after.ids.unique()) == len(after), "ids are repeated; give added examples new ids")
    demand(tuple(x.shape) == (len(after), *spec.shape), f"inputs of shape {tuple(x.shape)}")
    demand(x.dtype == torch.float32 and bool(((x >= 0) & (x <= 1)).all()), "inputs outside [0, 1]")
    demand(bool(((after.y >= 0) & (after.y < spec.classes)).all()), f"labels outside 0..{spec.classes - 1}")


def same_seed_same_poison(poison: Poison) -> None:
    """Poisoning twice gives the same examples, and draws nothing from global generators."""
    train, spec = examples()
    rng = SampleRandom(0, train.ids.clone())
    with seeded(0):
        before = global_state()
        one, one_ids = corrupted(poison, examples()[0], victims(), spec, rng)
        same = same_state(before, global_state())
        two, two_ids = corrupted(poison, examples()[0], victims(), spec, rng)
    demand(same, "a global generator was drawn from or seeded; draw from `rng`")
    demand(torch.equal(one_ids, two_ids), "other examples were poisoned the second time; draw from `rng` alone")
    demand(one.digest() == two.digest() and torch.equal(one.x(), two.x()), "the poison differed the second time")


@leaving_the_process_alone
def leaves_its_input_alone(poison: Poison) -> None:
    """The clean examples are not changed in place."""
    clean, spec = examples()
    given = Examples.of(clean.ids.clone(), clean.x().clone(), clean.y.clone())
    with seeded(0):
        corrupted(poison, given, victims(), spec, SampleRandom(0, clean.ids.clone()))
    kept = torch.equal(given.x(), clean.x()) and torch.equal(given.y, clean.y) and torch.equal(given.ids, clean.ids)
    demand(kept, "the clean examples were changed in place; work on copies")


def puts_its_trigger_in_the_box(poison: Poison) -> None:
    """A backdoor's trigger gives inputs of the same shape in [0, 1], and changes them."""
    x = examples()[0].x()
    given = x.clone()
    marked = poison.trigger(given)
    demand(torch.equal(given, x), "the trigger was written into the input; work on a copy")
    if marked is None:
        raise Inapplicable("the poison has no trigger")
    demand(marked.shape == x.shape, f"with the trigger the shape is {tuple(marked.shape)}; expected {tuple(x.shape)}")
    demand(bool(((marked >= 0) & (marked <= 1)).all()), "with the trigger, values are outside [0, 1]")
    demand(not torch.equal(marked, x), "the trigger changes nothing")


RULES = rules_of(
    honours_the_declared_rate,
    changes_only_what_it_names,
    changes_something,
    gives_valid_examples,
    same_seed_same_poison,
    leaves_its_input_alone,
    puts_its_trigger_in_the_box,
)
