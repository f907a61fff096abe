"""The contract suite: one named rule per promise of a plugin kind, run on any declared plugin.

A third party's whole test file is two lines::

    from benchmark.testing import contract
    test_contract = contract.tests("attack.acme")

and `benchmark plugins check attack.acme` prints the same rules without pytest. Plugins are built with their defaults.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.resources
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

from benchmark import registry
from benchmark.config.structured import inner_lists
from benchmark.errors import ConfigError
from benchmark.testing.rule import Inapplicable, Rule

__all__ = ["Case", "Inapplicable", "Result", "Rule", "build", "cases", "check", "rules", "tests"]


FURTHER = {"defense": ("inference", "detector")}
"""Further modules of rules for a kind, without the prefix `rules_`."""


@functools.cache
def rules(kind: str) -> tuple[Rule, ...]:
    """Rules for every plugin of a kind, in the order in which they are checked."""
    from benchmark.testing import rules_common

    if kind not in registry.KINDS:
        raise ConfigError(f"{kind!r} is not a kind of plugin; expected one of {', '.join(registry.KINDS)}")
    modules = (f"benchmark.testing.rules_{part}" for part in (kind, *FURTHER.get(kind, ())))
    own = [importlib.import_module(module).RULES for module in modules if importlib.util.find_spec(module)]
    return (*rules_common.rules_for(kind), *itertools.chain(*own))


def build(kind: str, name: str, **settings: Any) -> Any:
    """Instance of an installed plugin with its defaults, including the default plugins inside it.

    `name` may also be a variant, a file of settings such as conf/attack/pgd_10.yaml.

    Raises:
        PluginError: if it cannot be loaded. Inapplicable: if a setting has no default.
    """
    if name not in registry.names(kind) and _variant(kind, name).is_file():
        plugin, own = _read_variant(kind, name)
        return build(kind, plugin, **{**own, **settings})
    cls: Any = registry.load(kind, name)
    for field in dataclasses.fields(cls):
        if not field.init or field.name in settings:
            continue
        if "plugin" in field.metadata:
            inner_kind = (field.type if isinstance(field.type, str) else field.type.__name__).rpartition(".")[2].lower()
            settings[field.name] = build(inner_kind, field.metadata["plugin"])
        elif "plugins" in field.metadata:
            settings[field.name] = tuple(build(inner_lists(cls)[field.name], one) for one in field.metadata["plugins"])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Inapplicable(f"{kind}.{name} has no default for {field.name}; pass one to contract.tests")
    try:
        return cls(**settings)
    except ConfigError as error:
        raise Inapplicable(f"{kind}.{name} cannot be built from its defaults: {error}") from error


def _variant(kind: str, name: str) -> Traversable:
    return importlib.resources.files("benchmark.conf").joinpath(kind, f"{name}.yaml")


def _read_variant(kind: str, name: str) -> tuple[str, dict[str, Any]]:
    """Plugin of a variant, and its settings in the types of the plugin's fields."""
    from omegaconf import OmegaConf

    values: Any = OmegaConf.create(_variant(kind, name).read_text(encoding="utf-8"))
    plugin = next(entry for entry in values.pop("defaults") if entry != "_self_")
    schema: Any = OmegaConf.structured(registry.load(kind, plugin))
    OmegaConf.set_readonly(schema, None)  # a frozen dataclass gives a node that refuses to be merged into
    merged = OmegaConf.merge(schema, values)
    return plugin, {key: merged[key] for key in values}


@functools.lru_cache(maxsize=4)
def _built(kind: str, name: str) -> Any:
    return build(kind, name)


@dataclass(frozen=True)
class Case:
    """One rule for one plugin; `settings` replace defaults."""

    kind: str
    name: str
    rule: Rule
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}-{self.rule.name}"

    def run(self) -> None:
        """Check the rule.

        Raises:
            AssertionError: with a sentence, if the rule is broken. Inapplicable: if it does not apply to this plugin.
        """
        settings = dict(self.settings)
        component = build(self.kind, self.name, **settings) if settings else _built(self.kind, self.name)
        self.rule(component)


@dataclass(frozen=True)
class Result:
    """The result of one rule: "pass", "fail" or "skip", with the reason."""

    rule: str
    status: str
    reason: str = ""


def cases(*names: str, **settings: Any) -> list[Case]:
    """Every rule of the plugins `kind.name`, or of all declared ones; nothing is imported yet.

    Raises:
        PluginError: if one of `names` is not installed, or is declared twice.
    """
    if names:
        pairs = [(kind, name) for kind, _, name in (full.partition(".") for full in names)]
        for kind, name in pairs:
            registry.find(kind, name)
    else:
        pairs = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
    extra = tuple(sorted(settings.items()))
    return [Case(kind, name, rule, extra) for kind, name in pairs for rule in rules(kind)]


def tests(*names: str, **settings: Any) -> Callable[..., None]:
    """Pytest function with one named test per plugin and rule: `test_contract = contract.tests("attack.acme")`."""
    import pytest

    @pytest.mark.parametrize("case", cases(*names, **settings), ids=str)
    def test_contract(case: Case) -> None:
        try:
            case.run()
        except Inapplicable as reason:
            pytest.skip(str(reason))

    return test_contract


def check(kind: str, name: str) -> Iterator[Result]:
    """Run every rule on one installed plugin, yielding each result as soon as it is known.

    Raises:
        PluginError: if it cannot be loaded.
    """
    registry.load(kind, name)
    for case in cases(f"{kind}.{name}"):
        try:
            case.run()
        except Inapplicable as reason:
            yield Result(case.rule.name, "skip", str(reason))
        except AssertionError as error:
            yield Result(case.rule.name, "fail", str(error))
        else:
            yield Result(case.rule.name, "pass")
