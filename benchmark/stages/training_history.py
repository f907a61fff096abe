"""Files of an unfinished training: its history and checkpoints, read back after an interruption."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from benchmark.errors import StoreError
from benchmark.records.document import content_key
from benchmark.records.durable import checked_tensors, set_aside, write_atomic

__all__ = ["BEST", "LAST", "History", "begin_again_if_broken", "read_history", "write_history"]

History = list[dict[str, float]]

BEST = "best.safetensors"

HISTORY = "history.json"

LAST = "last.ckpt"


def read_history(folder: Path) -> History:
    """Epochs so far; empty before the first.

    Raises:
        StoreError: if the file is broken.
    """
    path = folder / HISTORY
    if not path.is_file():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        history: History = document["epochs"]
        whole = document["sha256"] == content_key(history)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is broken: {error}") from error
    if not whole:
        raise StoreError(f"{path} is broken: its content does not match its checksum")
    return history


def write_history(folder: Path, history: History) -> None:
    """Write the epochs so far, with their checksum."""
    write_atomic(folder / HISTORY, json.dumps({"epochs": history, "sha256": content_key(history)}) + "\n")


def begin_again_if_broken(folder: Path) -> None:
    """Set aside the files of an unfinished training if any is broken, so that it starts over."""
    last = folder / LAST
    try:
        history = read_history(folder)
        if (folder / BEST).is_file():
            checked_tensors(folder / BEST)
        elif history:
            raise StoreError(f"{folder / BEST} is missing")
        if last.is_file() and zipfile.ZipFile(last).testzip() is not None:
            raise StoreError(f"{last} is broken: its content does not match its checksum")
        if last.is_file() and not history:
            raise StoreError(f"{folder / HISTORY} is missing")
    except (StoreError, zipfile.BadZipFile, OSError, ValueError) as error:
        for name in (LAST, BEST, HISTORY):
            if (folder / name).is_file():
                set_aside(folder / name, f"belongs to a training with a broken file ({error})")
