"""The contract suite without a test file: `pytest --contract acme-attacks` tests the plugins of a distribution.

Pytest finds this module by its entry point wherever the benchmark is installed; without the option it does nothing and
makes no heavy imports. The option takes plugins (`attack.acme`) and distributions, any number of times; so does
`contract = attack.acme acme-attacks` in pytest's configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmark.testing.contract import Case


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and its counterpart in configuration files."""
    said = "run the benchmark's contract suite on a plugin (attack.acme) or all plugins of a distribution"
    parser.getgroup("benchmark").addoption("--contract", action="append", default=[], metavar="NAME", help=said)
    parser.addini("contract", said, type="args", default=[])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test per plugin and rule to the collected ones.

    Raises:
        pytest.UsageError: if nothing is installed under one of the names.
    """
    wanted = [*config.getini("contract"), *config.getoption("contract")]
    if not wanted:
        return
    from benchmark.errors import BenchmarkError
    from benchmark.testing import contract

    try:
        cases = contract.cases(*chosen_plugins(wanted))
    except BenchmarkError as error:
        raise pytest.UsageError(str(error)) from error
    items.extend(ContractItem.from_parent(session, name=f"contract[{case}]", case=case) for case in cases)


def chosen_plugins(wanted: list[str]) -> list[str]:
    """Distinct plugins `kind.name` of the given names; a distribution stands for all its plugins."""
    from benchmark import registry

    found: dict[str, None] = {}
    for name in wanted:
        theirs = [f"{d.kind}.{d.name}" for d in registry.declared() if d.distribution == name]
        found |= dict.fromkeys(theirs or [name])
    return list(found)


class ContractItem(pytest.Item):
    """One rule for one plugin."""

    def __init__(self, *, case: Case, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.case = case

    def runtest(self) -> None:
        """Check the rule; skip one that does not apply to this plugin, with the reason."""
        from benchmark.testing.rule import Inapplicable

        try:
            self.case.run()
        except Inapplicable as reason:
            pytest.skip(str(reason))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Sentence of the broken rule; anything else with its traceback."""
        return str(excinfo.value) if isinstance(excinfo.value, AssertionError) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """Rule and plugin."""
        return "benchmark.testing.contract", None, str(self.case)
