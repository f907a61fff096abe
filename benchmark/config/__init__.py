"""The configuration of a run: its schema, the frozen object made of it, and the check that its parts fit."""

from typing import Any


def __getattr__(name: str) -> Any:
    from benchmark.renamed import attribute

    return attribute(__name__, name)
