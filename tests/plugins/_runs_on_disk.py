"""Reads offline W&B runs back from their files, through W&B's own command line and with no network."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunOnDisk:
    """One run. summary: what `wandb leet inspect --summary` says. records: its log, one dict per record."""

    folder: Path
    summary: dict[str, Any]
    records: list[dict[str, Any]]

    @property
    def header(self) -> dict[str, Any]:
        """Group, job type, name and the like."""
        return next(r["run"] for r in self.records if r["type"] == "run")

    def history(self, name: str) -> list[dict[str, Any]]:
        """The rows of the history that hold a value of that name."""
        rows = [r["history"]["item"] for r in self.records if r["type"] == "history"]
        return [row for row in rows if name in row]

    def artifact(self, kind: str) -> dict[str, Path]:
        """The files of the one artifact of that type: name in it, and where it lies."""
        (found,) = [r["artifact"] for r in self.records if r["type"] == "artifact" and r["artifact"]["type"] == kind]
        return {entry["path"]: Path(entry["local_path"]) for entry in found["manifest"]["contents"]}


def _inspect(folder: Path, *options: str) -> str:
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", *options, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def _read(folder: Path) -> RunOnDisk:
    records = [json.loads(line) for line in _inspect(folder).splitlines()]
    return RunOnDisk(folder, json.loads(_inspect(folder, "--summary")), records)


def runs_in(root: Path) -> list[RunOnDisk]:
    """Every run under a results folder, in the order in which they were started."""
    folders = [file.parent for file in root.glob("wandb/*/*.wandb")]
    with ThreadPoolExecutor(4) as readers:
        found = list(readers.map(_read, folders))
    return sorted(found, key=lambda run: str(run.summary["start_time"]))
