"""The trackers, driven through the core's observers; W&B runs are read back from disk."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.trackers._wandb_views import curve_of, readable
from benchmark_plugins.trackers.console import ConsoleTracker
from benchmark_plugins.trackers.wandb import Mode, WandbTracker
from PIL import Image
from torch import Tensor

from benchmark.hooks.events import SweepSummary
from benchmark.hooks.observers import Observers
from benchmark.registry import settings
from tests.plugins._made_outcomes import made_outcomes
from tests.plugins._runs_on_disk import runs_in
from tests.plugins.observed_cells import INF, card_of, cell_plan, finished, gallery, observed, training_plan


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, and a home of its own, in which nothing may appear."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


# --- W&B ---


def test_every_cell_and_training_of_a_process_gets_a_run_of_its_own(tmp_path: Path) -> None:
    tell = observed(WandbTracker())
    training = training_plan(tmp_path)
    plans = [cell_plan(tmp_path, index) for index in range(4)]
    tell("benchmark_cell_started", plan=plans[0])
    tell("benchmark_training_started", training=training)  # while the run of the cell is open
    for epoch, loss in enumerate((0.9, 0.5, 0.1)):
        tell("benchmark_epoch", training=training, epoch=epoch, values={"epoch": float(epoch), "train_loss": loss})
    tell("benchmark_training_finished", training=training, card=card_of(training))
    for plan, status in zip(plans, ("complete", "failed", "refused", "complete"), strict=True):
        if plan is not plans[0]:
            tell("benchmark_cell_started", plan=plan)
        tell("benchmark_progress", stage="attack", done=1, total=2)
        record = finished(plan, status=status)
        shown = gallery() if status == "complete" else None
        tell("benchmark_cell_finished", plan=plan, record=record, folder=plan.folder, gallery=shown)
    tell("benchmark_sweep_finished", summary=SweepSummary("sweep-7", (), 1.0))

    runs = {run.summary["run_id"]: run for run in runs_in(tmp_path)}
    assert set(runs) == {plan.key[:16] for plan in plans} | {f"{training.key[:16]}-training"}
    cells = [runs[plan.key[:16]] for plan in plans]
    assert [run.summary["exit_code"] for run in cells] == [0, 1, 0, 0]
    assert [run.summary["state"] for run in cells] == ["finished", "failed", "finished", "finished"]
    assert [run.summary["tags"] for run in cells] == [["complete"], ["failed"], ["refused"], ["complete"]]
    assert [run.summary["config"]["seed"] for run in cells] == [0, 1, 2, 3]
    assert [run.summary["name"] for run in cells] == [plan.name for plan in plans]
    assert cells[1].summary["summary"]["error"] == "RuntimeError: it broke [here]"
    assert {run.header["run_group"] for run in runs.values()} == {"sweep-7"}
    assert {run.header["job_type"] for run in cells} == {"cell"}
    assert {run.header["project"] for run in runs.values()} == {"adversarial-benchmark"}

    trained = runs[f"{training.key[:16]}-training"]
    assert trained.header["job_type"] == "training"
    assert trained.summary["exit_code"] == 0
    assert [(row["epoch"], row["train_loss"]) for row in trained.history("epoch")] == [(0, 0.9), (1, 0.5), (2, 0.1)]
    assert trained.summary["summary"]["test_correct"] == 486
    assert trained.summary["config"]["model"] == {"name": "small_cnn"}


def test_a_complete_cell_shows_its_numbers_table_curve_images_and_files(tmp_path: Path) -> None:
    plan = cell_plan(tmp_path)
    tell = observed(WandbTracker())
    tell("benchmark_cell_started", plan=plan)
    record = finished(plan)
    tell("benchmark_cell_finished", plan=plan, record=record, folder=plan.folder, gallery=gallery())
    (run,) = runs_in(tmp_path)

    config = run.summary["config"]
    assert config["attack"] == {"name": "pgd", "steps": 40}
    assert config["defenses"]["order"] == "jpeg+label_smoothing"
    assert config["defenses"]["jpeg"]["quality"] == 75
    assert config["overrides"] == ["attack=pgd", "seed=0"]
    assert (config["key"], config["sweep"]) == (plan.key, "sweep-7")

    summary = run.summary["summary"]
    robust = record.metric("robust_accuracy")
    assert robust is not None
    assert robust.value == 0.5
    for name, value in (("", robust.value), ("_low", robust.low), ("_high", robust.high)):
        assert summary[f"robust_accuracy{name}"] == value
    assert summary["counts"] == {
        "total": 10,
        "clean_correct": 8,
        "robust_correct": 5,
        "clean_top5": 8,
        "spared": 0,
        "robust_top5": 5,
        "invalid": 1,
    }
    assert summary["cost"]["seconds"] == 3.21
    assert summary["status"] == "complete"
    assert summary["findings"] == 1

    table = json.loads((run.folder / "files" / summary["results"]["path"]).read_text())
    row = dict(zip(table["columns"], table["data"][0], strict=True))
    assert row["system"] == "digits/small_cnn+jpeg"
    assert (row["attack"], row["norm"], row["eps"]) == ("pgd", "linf", "1/10")
    assert (row["robust_correct"], row["total"], row["invalid"]) == (5, 10, 1)
    assert row["robust_accuracy"] == robust.value
    assert row["findings"] == "zero_gradients"

    curve = [(r["curve_eps"], r["robust_accuracy_at_eps"]) for r in run.history("curve_eps")]
    exact = [(0, 0.7), (0.05, 0.6), (0.1, 0.5), (0.2, 0.3), (0.4, 0.2)]  # an invalid one is never robust
    assert [point[0] for point in curve] == pytest.approx([point[0] for point in exact])
    assert [point[1] for point in curve] == pytest.approx([point[1] for point in exact])

    for name in ("clean", "adversarial", "difference"):
        shown = summary[f"examples/{name}"]
        assert (shown["count"], shown["width"], shown["height"]) == (3, 64, 64)
    assert summary["examples/adversarial"]["captions"][1] == "102: label 2, seen as refused"
    pixels = {name: _first_image(run.folder, summary[f"examples/{name}"]) for name in ("clean", "difference")}
    assert pixels["clean"].unique().tolist() == [128]
    assert [int(pixels["difference"][i, i]) for i in (0, 32, 63)] == [255, 128, 0]

    files = run.artifact("record")
    assert set(files) == {"record.json", "outcomes.safetensors"}
    assert files["outcomes.safetensors"] == plan.folder / "outcomes.safetensors"
    assert json.loads(files["record.json"].read_text())["key"] == plan.key
    assert files["record.json"].is_relative_to(run.folder)
    assert sorted(p.name for p in plan.folder.iterdir()) == ["outcomes.safetensors", "record.json"]
    assert not (tmp_path / "home" / ".local").exists()
    assert "WANDB_DATA_DIR" not in os.environ


def _first_image(folder: Path, shown: dict[str, Any]) -> Tensor:
    with Image.open(folder / "files" / shown["filenames"][0]) as image:
        return torch.tensor(np.asarray(image))


@pytest.mark.parametrize("channels", [2, 3])
def test_images_of_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    plan = cell_plan(tmp_path)
    observed(WandbTracker())(
        "benchmark_cell_finished", plan=plan, record=finished(plan), folder=plan.folder, gallery=gallery(channels)
    )
    (run,) = runs_in(tmp_path)
    assert run.summary["summary"]["examples/clean"]["count"] == 3


def test_a_cell_without_optional_parts_is_published(tmp_path: Path) -> None:
    plan = dataclasses.replace(cell_plan(tmp_path), sweep="", config={}, overrides=())
    record = finished(plan, minimal=False).model_copy(update={"metrics": [], "cost": None, "files": [], "findings": []})
    tell = observed(WandbTracker())
    tell("benchmark_cell_finished", plan=plan, record=record, folder=plan.folder, gallery=None)
    (run,) = runs_in(tmp_path)
    assert run.summary["exit_code"] == 0
    assert "run_group" not in run.header
    assert run.history("curve_eps") == []
    assert "examples/clean" not in run.summary["summary"]


def test_a_failure_while_publishing_ends_the_run_and_is_reported(tmp_path: Path) -> None:
    plan = cell_plan(tmp_path)
    tracker = WandbTracker()
    observers = Observers([tracker])
    observers.tell("benchmark_cell_started", plan=plan)
    record = finished(plan)
    (plan.folder / "outcomes.safetensors").write_bytes(b"broken")
    observers.tell("benchmark_cell_finished", plan=plan, record=record, folder=plan.folder, gallery=None)
    assert "tracker WandbTracker failed in benchmark_cell_finished" in observers.problems[0]
    (run,) = runs_in(tmp_path)
    assert run.summary["exit_code"] == 1
    assert tracker._open == {}


def test_what_was_broken_off_ends_as_failed(tmp_path: Path) -> None:
    tell = observed(WandbTracker())
    tell("benchmark_cell_started", plan=cell_plan(tmp_path))
    tell("benchmark_training_started", training=training_plan(tmp_path))
    tell("benchmark_training_finished", training=training_plan(tmp_path), card=None)
    tell("benchmark_sweep_finished", summary=SweepSummary("s", (), 1.0))
    assert [run.summary["state"] for run in runs_in(tmp_path)] == ["failed", "failed"]


def test_no_network_is_touched(tmp_path: Path) -> None:
    """The same hooks in a process whose network, loopback included, is down; it also inherited a dead W&B service."""
    isolate = shutil.which("unshare")
    if isolate is None or subprocess.run([isolate, "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody take the network away from a process")
    script = (
        "import sys; from pathlib import Path; from tests.plugins.test_trackers import *\n"
        "plan = cell_plan(Path(sys.argv[1])); tell = observed(WandbTracker())\n"
        "tell('benchmark_cell_started', plan=plan); record = finished(plan)\n"
        "tell('benchmark_cell_finished', plan=plan, record=record, folder=plan.folder, gallery=gallery())\n"
    )
    command = [isolate, "-rn", sys.executable, "-c", script, str(tmp_path)]
    root = Path(__file__).parents[2]
    env = {**os.environ, "WANDB_SERVICE": f"3-1-unix-{tmp_path}/gone"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=env, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (run,) = runs_in(tmp_path)
    assert run.summary["exit_code"] == 0


SERVICE_DIES = """
import sys
from pathlib import Path
import benchmark_plugins.trackers.wandb as tracker
from wandb.sdk.lib.service import service_process
from benchmark.hooks.observers import Observers
from tests.plugins.observed_cells import cell_plan, finished

service_process.get_core_path = lambda: sys.argv[2]  # a program that ends at once
tracker.PATIENCE = 1.0
root = Path(sys.argv[1])
observers = Observers([tracker.WandbTracker()])
for index in range(2):
    plan = cell_plan(root, index)
    observers.tell("benchmark_cell_started", plan=plan)
    observers.tell("benchmark_cell_finished", plan=plan, record=finished(plan), folder=plan.folder, gallery=None)
print(*observers.problems, sep="\\n")
"""


def test_a_service_that_dies_while_it_starts_stops_nobody(tmp_path: Path) -> None:
    """W&B 0.31 then waits for a lock that it holds itself, for ever: seen with a service that was killed."""
    command = [sys.executable, "-c", SERVICE_DIES, str(tmp_path), str(shutil.which("false"))]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=root)
    assert done.stdout.count("tracker.wandb: W&B's service did not start within 1 s; the record can be sent later") == 4


def test_wandb_is_imported_only_by_a_run() -> None:
    script = "import sys, benchmark_plugins.trackers.wandb as t; t.WandbTracker(); print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False\n"


def test_auto_goes_online_only_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from benchmark_plugins.trackers.wandb import _mode

    def configured(**known: Any) -> SimpleNamespace:
        defaults = {"mode": "online", "api_key": None, "identity_token_file": None}
        return SimpleNamespace(**{**defaults, "base_url": "https://api.wandb.ai", **known})

    assert _mode(configured()) == "offline"
    assert _mode(configured(api_key="k" * 40)) == "online"
    assert _mode(configured(api_key="k" * 40, mode="offline")) == "offline"
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {'k' * 40}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert _mode(configured()) == "online"
    assert _mode(configured(base_url="https://wandb.example.org")) == "offline"


def test_the_state_of_a_tracker_is_no_setting() -> None:
    for tracker in (WandbTracker(), ConsoleTracker()):
        assert [f.name for f in dataclasses.fields(tracker) if f.init] == (
            ["mode", "project", "entity"] if isinstance(tracker, WandbTracker) else []
        )
    assert settings(WandbTracker()) == {"mode": "auto", "project": "adversarial-benchmark", "entity": ""}
    assert settings(ConsoleTracker()) == {}
    assert WandbTracker() == WandbTracker()
    assert WandbTracker(mode=Mode.offline) != WandbTracker()
    assert "_open" not in repr(WandbTracker())


def test_settings_that_wandb_cannot_filter_are_made_readable() -> None:
    config = {"a": [{"name": "jpeg", "q": 1}, {"name": "jpeg", "q": 2}], "b": INF, "c": (1, 2), "d": Path("x"), "e": []}
    assert readable(config) == {"a": config["a"], "b": "inf", "c": [1, 2], "d": "x", "e": []}


def test_a_long_curve_is_thinned_and_stays_exact(tmp_path: Path) -> None:
    plan = cell_plan(tmp_path)
    record = finished(plan)
    distance = torch.rand(1000, generator=torch.Generator().manual_seed(0)).mul(50).round().div(50)  # with many ties
    outcomes = made_outcomes(torch.ones(1000, dtype=torch.bool), distance=distance, eps=0.5)
    outcomes.save(plan.folder / "outcomes.safetensors")
    curve = list(curve_of(record, plan.folder))
    assert 20 < len(curve) <= 65
    assert [eps for eps, _ in curve] == sorted({eps for eps, _ in curve})
    for eps, accuracy in curve:
        assert accuracy == pytest.approx(float((distance.double() > eps).double().mean()))
    assert curve[-1] == (pytest.approx(1.0), 0.0)
