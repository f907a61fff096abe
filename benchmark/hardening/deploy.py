"""Export of the model that a search found: weights, card, and ONNX if the defenses can be expressed in it."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.stages.replay import rebuilt

if TYPE_CHECKING:
    import torch

    from benchmark.system import System

__all__ = ["deploy"]

SCORE_TOLERANCE = 1e-4
"""Largest difference of ONNX scores on clean examples, as a fraction of the scores' range."""


def deploy(record: Record, store: Store, data: Path, out: Path) -> list[str]:
    """Write `weights.safetensors`, `card.json` and, if possible, `model.onnx` of a record's system into `out`.

    Returns:
        A sentence about each file, including one that cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    folder = store.system(record.system.key)
    told = []
    for name in ("weights.safetensors", "card.json"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
            told.append(f"{name}: as in the store; load it with this version of model and defenses")
    import torch

    replay = rebuilt(record, store, data)
    shown = replay.examples.x(torch.arange(min(32, len(replay.examples))))
    told.append(_to_onnx(replay.system, shown, out / "model.onnx"))
    return told


def _to_onnx(system: System, x: torch.Tensor, path: Path) -> str:
    import torch

    if system.detectors:
        return "model.onnx: not written: a detector refuses inputs, which scores alone cannot express"
    if system.randomized:
        return "model.onnx: not written: the system draws random numbers, which ONNX does not reproduce"
    try:
        import onnx
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        return "model.onnx: not written: this needs the package onnx; pip install 'adversarial-benchmark[onnx]'"
    model = system.protected.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            expected = model(x)
            batch = {"input": {0: "batch"}, "scores": {0: "batch"}}
            torch.onnx.export(
                model, (x,), str(path), input_names=["input"], output_names=["scores"], dynamic_axes=batch, dynamo=False
            )
        (found,) = ReferenceEvaluator(onnx.load(str(path))).run(None, {"input": x.numpy()})
    except Exception as error:
        path.unlink(missing_ok=True)
        return f"model.onnx: not written: ONNX cannot express the system ({type(error).__name__}: {_first(error)})"
    far = float((torch.as_tensor(found) - expected).abs().max() / (expected.amax() - expected.amin()))
    if not far <= SCORE_TOLERANCE:
        path.unlink(missing_ok=True)
        return f"model.onnx: not written: its scores differ by {far:.2g} of their range"
    return f"model.onnx: the whole system including its defenses; scores agree to {far:.1e} of their range"


def _first(error: Exception) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0][:200]
