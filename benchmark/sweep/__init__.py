"""Sweeps: the Hydra application, the expanded matrix, and suites."""

from typing import Any


def __getattr__(name: str) -> Any:
    from benchmark.renamed import attribute

    return attribute(__name__, name)
