"""Configuration of a run: its schema, the frozen object resolved from it, and the check that its parts fit together."""

from typing import Any


def __getattr__(name: str) -> Any:
    from benchmark.renamed import attribute

    return attribute(__name__, name)
