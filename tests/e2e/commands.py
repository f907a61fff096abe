"""Run the command as a user does, and compare the records that two stores hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

VARY = ("seconds", "peak_memory_bytes")
QUICK = ("model=linear", "training.epochs=2", "metric=[robust_accuracy]", "examples=100")


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BENCHMARK_", "WANDB_", "HYDRA_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}


def benchmark(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`benchmark WORDS` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"benchmark {' '.join(words)} gave {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Every record of a store by key, without what may differ between reruns."""
    found = {}
    for path in sorted((folder / "results" / "cells").glob("*/record.json")):
        document = json.loads(path.read_text())
        document.pop("provenance")
        if document["cost"]:
            document["cost"] = {k: v for k, v in document["cost"].items() if k not in VARY}
        found[document["key"]] = document
    return found


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of every outcome and witness file."""
    cells = folder / "results" / "cells"
    return {str(p.relative_to(cells)): p.read_bytes() for p in sorted(cells.glob("*/*.safetensors"))}
