"""Provenance: versions, revision and machine. The only part of a record that may differ between reruns."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import time
from typing import Any

from benchmark import __version__

__all__ = ["provenance"]

PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "hydra-core", "omegaconf", "scikit-learn", "wandb")


def provenance(**more: Any) -> dict[str, Any]:
    """Time, harness, git, packages and machine, plus the caller's entries."""
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "harness": __version__,
        **_environment(),
        **more,
    }


@functools.cache
def _environment() -> dict[str, Any]:
    import torch

    return {
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any]:
    """Git revision of the working directory, and True if it has uncommitted changes; nulls outside a checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    revision = ask("rev-parse", "HEAD")
    changes = ask("status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}
