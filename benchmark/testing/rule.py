"""A rule of the contract suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmark.errors import PluginFault
from benchmark.guard import guarded

__all__ = ["Inapplicable", "Rule", "demand", "leaving_the_process_alone", "rules_of"]


class Inapplicable(Exception):  # noqa: N818 - it is no error: the rule cannot be asked of this plugin
    """A rule does not apply to a plugin; the message says why."""


@dataclass(frozen=True)
class Rule:
    """A promise: called with an instance of a plugin, it raises AssertionError with a sentence if it is not kept."""

    name: str
    about: str
    check: Callable[[Any], None]

    def __call__(self, component: Any) -> None:
        """Check the promise; any other exception of the plugin breaks it too.

        Process state that the plugin changes is restored, and fails the rules about it.
        """
        spared = getattr(component, "environment", ())
        try:
            with guarded(type(component).__name__, generators=False, spared=spared):
                self.check(component)
        except (AssertionError, Inapplicable):
            raise
        except PluginFault as error:
            demand(not hasattr(self.check, LEAVING) and error.__cause__ is None, str(error))
        except Exception as error:
            raise AssertionError(
                f"{type(component).__name__} raised {type(error).__name__}: {error}; it must not fail here"
            ) from error


LEAVING = "leaves_the_process_alone"


def leaving_the_process_alone(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """Mark a check that also fails if process state, such as torch's modes or the environment, is left changed."""
    setattr(check, LEAVING, True)
    return check


def rules_of(*checks: Callable[[Any], None]) -> tuple[Rule, ...]:
    """Rules named after the functions that check them."""
    return tuple(Rule(c.__name__, (c.__doc__ or "").partition("\n")[0], c) for c in checks)


def demand(condition: object, sentence: str) -> None:
    """Fail the rule with a sentence unless the condition holds (also under python -O)."""
    if not condition:
        raise AssertionError(sentence)
