"""Rules for more than one kind of plugin."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import sys
from typing import Any

from benchmark import registry
from benchmark.api import Component, Supports
from benchmark.testing.rule import Rule, demand, rules_of

_SOURCE = re.compile(r"\b(19|20)\d\d\b|arxiv|doi\.org|no paper", re.IGNORECASE)


def names_its_paper(component: Component) -> None:
    """The module's docstring names the paper with its year, or says that there is no paper."""
    text = sys.modules[type(component).__module__].__doc__ or ""
    demand(
        _SOURCE.search(text),
        f"the docstring of {type(component).__module__} names no paper; begin the file with one line such as "
        '"""PGD: projected gradient ascent. Madry et al., ICLR 2018, arXiv:1706.06083.""", or say "No paper"',
    )


def has_plain_settings(component: Any) -> None:
    """Settings are plain data that a record can hold, and equal settings make equal plugins."""
    demand(
        dataclasses.is_dataclass(component) and getattr(type(component), "__dataclass_params__").frozen,  # noqa: B009 - typing
        f"{type(component).__name__} is not a frozen dataclass; decorate it with @dataclass(frozen=True)",
    )
    text = json.dumps(registry.settings(component), allow_nan=False)
    demand(
        dataclasses.replace(component) == component,
        f"a copy of {type(component).__name__} with the same settings is not equal to it; leave eq to the dataclass",
    )
    again = json.dumps(registry.settings(dataclasses.replace(component)), allow_nan=False)
    demand(text == again, f"{type(component).__name__} changes its own settings when it is built: {text} then {again}")


def travels_to_workers(component: Any) -> None:
    """The plugin can be pickled, so that launchers can send it to other processes."""
    demand(
        pickle.loads(pickle.dumps(component)) == component,
        f"{type(component).__name__} differs after pickling; keep state out of the class",
    )


def declares_what_it_supports(component: Any) -> None:
    """Attacks and certifiers declare norms and access."""
    supports: Any = getattr(component, "supports", None)
    demand(
        isinstance(supports, Supports),
        f"{type(component).__name__}.supports is {supports!r}; expected benchmark.api.Supports(...)",
    )
    demand(supports.norms, f"{type(component).__name__} supports no norm; name at least one in supports.norms")


def rules_for(kind: str) -> tuple[Rule, ...]:
    """Common rules for a kind: methods name papers, attacks and certifiers declare their abilities."""
    rules = rules_of(has_plain_settings, travels_to_workers)
    if kind in ("attack", "defense", "poison", "certifier"):
        rules += rules_of(names_its_paper)
    if kind in ("attack", "certifier"):
        rules += rules_of(declares_what_it_supports)
    return rules
