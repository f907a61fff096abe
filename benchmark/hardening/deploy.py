"""Export of the model that a search found: weights, card, and ONNX if the defenses can be expressed in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import MissingPackage, Unproved
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.stages.replay import rebuilt

if TYPE_CHECKING:
    import torch

    from benchmark.system import System

__all__ = ["deploy"]


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

    from benchmark.stages.onnx_graph import SCORE_TOLERANCE, score_difference, write_graph

    try:
        write_graph(system, x, path)
        far = score_difference(torch.as_tensor(_evaluated(path, x)), system.protected(x))
    except (MissingPackage, Unproved) as error:
        return f"model.onnx: not written: {error}"
    except Exception as error:  # the reference evaluator's own, for an operator that it lacks
        path.unlink(missing_ok=True)
        return f"model.onnx: not written: it cannot be evaluated ({type(error).__name__})"
    if not far <= SCORE_TOLERANCE:
        path.unlink(missing_ok=True)
        return f"model.onnx: not written: its scores differ by {far:.2g} of their range"
    return f"model.onnx: the whole system including its defenses; scores agree to {far:.1e} of their range"


def _evaluated(path: Path, x: torch.Tensor) -> Any:
    """Scores of the graph by the reference evaluator of ONNX."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    (found,) = ReferenceEvaluator(onnx.load(str(path))).run(None, {"input": x.numpy()})
    return found
