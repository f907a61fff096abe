"""A whole system, with the defenses that act at inference, as one ONNX graph."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import MissingPackage, Unproved

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.system import System

__all__ = ["SCORE_TOLERANCE", "score_difference", "write_graph"]

SCORE_TOLERANCE = 1e-4
"""Largest difference of scores between PyTorch and another runtime, as a fraction of the scores' range."""


def write_graph(system: System, x: Tensor, path: Path) -> None:
    """Write the deployed network as ONNX: `input` (B, *S) in [0, 1] to `scores`, for any number of inputs B.

    Args:
        x: (b, *S), inputs to trace it with.

    Raises:
        Unproved: if a graph cannot express the system. MissingPackage: without the package onnx.
    """
    import torch

    if system.detectors:
        raise Unproved("a detector refuses inputs, which scores alone cannot express")
    if system.randomized:
        raise Unproved("the system draws random numbers, which ONNX does not reproduce")
    try:
        import onnx  # noqa: F401 - torch needs it, and names it only after tracing
    except ImportError as error:
        raise MissingPackage("this needs the package onnx; pip install 'adversarial-benchmark[onnx]'") from error
    batch = {"input": {0: "batch"}, "scores": {0: "batch"}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                system.protected.eval(), (x,), str(path), input_names=["input"], output_names=["scores"],
                dynamic_axes=batch, dynamo=False,
            )  # fmt: skip
    except Exception as error:
        path.unlink(missing_ok=True)
        reason = (str(error).strip() or "no reason given").splitlines()[0][:200]
        raise Unproved(f"ONNX cannot express the system ({type(error).__name__}: {reason})") from error


def score_difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference of scores, as a fraction of the range of the expected ones."""
    return float((found - expected).abs().max() / (expected.amax() - expected.amin()))
