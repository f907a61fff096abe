"""Offline runs reach the service by `wandb sync`: against a stand-in on the loopback interface."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.records.record import read_record
from tests.leaderboard.made_records import made_cell
from tests.plugins._wandb_service import wandb_service


def test_what_was_published_and_reported_offline_is_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cell = made_cell(tmp_path, clean=[True] * 8 + [False] * 2, distance=[0.05, 0.2] + [0.3] * 8, minimal=True)
    assert main(["publish", "--tracker", "wandb", str(tmp_path / "cells"), "--sweep", "later"]) == 0
    assert main(["report", "--store", str(tmp_path)]) == 0
    runs = [str(file.parent) for file in tmp_path.glob("wandb/*/*.wandb")]
    with wandb_service() as service:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
            "WANDB_BASE_URL": service.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ERROR_REPORTING": "false",
        }
        command = [str(Path(sys.executable).with_name("wandb")), "sync", *runs]
        done = subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    run_id = cell.name[:16]
    (summary, *_) = reversed(service.lines(run_id, "wandb-summary.json"))
    record = read_record(cell)
    assert record.counts is not None
    assert summary["counts"] == record.counts.model_dump()
    curve = [row for row in service.lines(run_id, "wandb-history.jsonl") if "curve_eps" in row]
    assert [row["robust_accuracy_at_eps"] for row in curve] == [0.8, 0.7, 0.6, 0.0]
    calls = [call.get("input", call) for call in service.called("CreateArtifact")]
    made = {(call["artifactTypeName"], call["artifactCollectionName"]) for call in calls}
    assert ("record", f"cell-{record.key}") in made
    assert "leaderboard" in {kind for kind, _ in made}
    groups = {call["name"]: call.get("groupName") for call in service.called("UpsertBucket")}
    assert groups[run_id] == "later"
    assert len(groups) == 2
