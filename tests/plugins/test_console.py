"""The console tracker: lines, bars and tables."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from pathlib import Path

import pytest
from benchmark_plugins.trackers import console
from benchmark_plugins.trackers.console import ConsoleTracker, duration, result_of

from benchmark.hooks.events import CellResult, SweepSummary
from tests.plugins.observed_cells import card_of, cell_plan, finished, observed, training_plan


def test_without_a_terminal_a_cell_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = cell_plan(tmp_path)
    tell = observed(ConsoleTracker())
    tell("benchmark_cell_started", plan=plan)
    tell("benchmark_progress", stage="attack", done=0, total=8)
    tell("benchmark_progress", stage="attack", done=8, total=8)
    tell("benchmark_cell_finished", plan=plan, record=finished(plan), folder=plan.folder, gallery=None)
    assert capsys.readouterr().out.splitlines() == [
        "[cell] digits/small_cnn+jpeg pgd linf 1/10 seed 0: robust 50.0 % (23.7 to 76.3), clean 80.0 %, "
        "1 of 10 candidates invalid, 40 passes, 3.2 s",
        "[warning] digits/small_cnn+jpeg pgd linf 1/10 seed 0: zero_gradients: 4 of 8 are [zero]",
    ]


def test_a_cell_without_the_usual_metrics_says_what_was_counted(tmp_path: Path) -> None:
    record = finished(cell_plan(tmp_path)).model_copy(update={"metrics": []})
    assert record.counts is not None
    share = 100 * record.counts.robust_correct / record.counts.total
    assert result_of(record).startswith(f"robust {share:.1f} %, clean 80.0 %, 1 of 10 candidates invalid, ")


def test_passes_that_all_examples_share_are_told(tmp_path: Path) -> None:
    record = finished(cell_plan(tmp_path))
    assert record.cost is not None
    cost = record.cost.model_copy(update={"prepared_forwards": 800, "prepared_backwards": 40})
    assert "40 passes, 840 passes to prepare, 3.2 s" in result_of(record.model_copy(update={"cost": cost}))


def test_a_cell_without_a_result_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell = observed(ConsoleTracker())
    for index, status in enumerate(("failed", "refused")):
        plan = cell_plan(tmp_path, index)
        tell("benchmark_cell_finished", plan=plan, record=finished(plan, status=status), folder=tmp_path, gallery=None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "failed: RuntimeError: it broke [here]",
        "refused: RuntimeError: it broke [here]",
    ]


def test_a_long_stage_says_how_long_it_will_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    tell = observed(ConsoleTracker())
    tell("benchmark_cell_started", plan=cell_plan(tmp_path))
    for done in range(0, 101, 5):
        tell("benchmark_progress", stage="attack", done=done, total=100)
        clock[0] += 3.0  # 0.6 s an example
    assert capsys.readouterr().out.splitlines()[:2] == [
        "[attack] digits/small_cnn+jpeg pgd linf 1/10 seed 0: 20/100, about 48.0 s left",
        "[attack] digits/small_cnn+jpeg pgd linf 1/10 seed 0: 40/100, about 36.0 s left",
    ]


def test_a_training_is_told_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell = observed(ConsoleTracker())
    training = training_plan(tmp_path)
    tell("benchmark_training_started", training=training)
    tell("benchmark_epoch", training=training, epoch=0, values={"epoch": 0.0, "train_loss": 0.5})
    tell("benchmark_training_finished", training=training, card=card_of(training))
    tell("benchmark_training_started", training=training)
    tell("benchmark_training_finished", training=training, card=None)
    assert capsys.readouterr().out.splitlines() == [
        "[train] digits/small_cnn: up to 3 epochs",
        "[train] digits/small_cnn: clean 97.2 %, 3 epochs, 1 min 15 s",
        "[warning] digits/small_cnn: the loss rose",
        "[train] digits/small_cnn: up to 3 epochs",
        "[train] digits/small_cnn: training failed",
    ]


def sweep() -> SweepSummary:
    cells = (
        CellResult("a", "digits pgd", "complete"),
        CellResult("b", "digits fgsm", "complete", cached=True),
        CellResult("c", "digits [bim]", "failed", "RuntimeError: the first"),
        CellResult("", "attack=jsma", "refused", "attack.jsma perturbs under l0, but threat.norm is linf"),
        CellResult("d", "digits deepfool", "failed", "RuntimeError: the second"),
    )
    return SweepSummary("s", cells, 125.4, Path("results/leaderboard/index.html"), ("warning: noise_wins: 3 [cells]",))


def test_a_sweep_ends_with_every_error_and_the_leaderboard(capsys: pytest.CaptureFixture[str]) -> None:
    observed(ConsoleTracker())("benchmark_sweep_finished", summary=sweep())
    assert capsys.readouterr().out.splitlines() == [
        "[sweep] failed: digits [bim]: RuntimeError: the first",
        "[sweep] refused: attack=jsma: attack.jsma perturbs under l0, but threat.norm is linf",
        "[sweep] failed: digits deepfool: RuntimeError: the second",
        "[finding] warning: noise_wins: 3 [cells]",
        "[sweep] 5 cells: 2 complete, 2 failed, 1 refused; 1 was in the store already; 2 min 5 s",
        "[sweep] leaderboard: results/leaderboard/index.html",
    ]


def test_at_a_terminal_there_are_bars_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.openpty()
    seen: list[bytes] = []
    screen = threading.Thread(target=_read_all, args=(reader, seen))
    screen.start()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        tell = observed(ConsoleTracker())
        plan = cell_plan(tmp_path)
        tell("benchmark_cell_started", plan=plan)
        tell("benchmark_progress", stage="attack", done=4, total=8)
        tell("benchmark_progress", stage="attack", done=8, total=8)
        tell("benchmark_cell_finished", plan=plan, record=finished(plan), folder=plan.folder, gallery=None)
        tell("benchmark_sweep_finished", summary=sweep())
    screen.join(timeout=30)
    text = b"".join(seen).decode()
    assert "━" in text  # a bar
    assert "8/8" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "seed 0: robust 50.0 % (23.7 to 76.3), clean 80.0 %" in plain
    assert "┃" in plain  # the table
    for error in ("RuntimeError: the first", "RuntimeError: the second", "threat.norm is linf"):
        assert error in plain
    assert "digits [bim]" in plain
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0  # the cursor is back


def _read_all(reader: int, seen: list[bytes]) -> None:
    """Output as a terminal would show it, until its last writer is gone."""
    with contextlib.suppress(OSError):
        while part := os.read(reader, 4096):
            seen.append(part)
    os.close(reader)


def test_durations_are_for_people() -> None:
    assert [duration(s) for s in (0.04, 59.94, 60, 119.6, 3600, 7500)] == [
        "0.0 s",
        "59.9 s",
        "1 min 0 s",
        "2 min 0 s",
        "1 h 0 min",
        "2 h 5 min",
    ]
