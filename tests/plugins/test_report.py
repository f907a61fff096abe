"""`benchmark report`: boards, curves and site of a store in one W&B run, read back from disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_leaderboard.report import report_of

from benchmark.cli import main
from benchmark.errors import RecordError
from tests.leaderboard.made_records import made_cell, made_store
from tests.plugins._runs_on_disk import runs_in


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_run_holds_what_the_boards_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_cell(tmp_path, clean=[True] * 8 + [False] * 2, distance=[0.05, 0.2] + [0.3] * 8, minimal=True)
    made_cell(tmp_path, clean=[True] * 9 + [False], distance=[0.05] * 4 + [0.3] * 6, minimal=True, model="cnn")
    assert main(["report", "--store", str(tmp_path), "--name", "the sweep"]) == 0
    assert "1 boards, 1 sets of curves" in capsys.readouterr().out
    (run,) = runs_in(tmp_path)
    assert (run.header["job_type"], run.summary["name"], run.summary["exit_code"]) == ("report", "the sweep", 0)
    report = report_of(tmp_path, "again")
    (board,) = report.tables
    table = json.loads((run.folder / "files" / run.summary["summary"][board.name]["path"]).read_text())
    assert table["columns"] == list(board.columns)
    assert [tuple(row) for row in table["data"]] == list(board.rows)
    by_system = {row[0]: dict(zip(board.columns, row, strict=True)) for row in board.rows}
    assert (by_system["mlp"]["robust_accuracy"], by_system["cnn"]["robust_accuracy"]) == (0.7, 0.5)
    assert (by_system["mlp"]["rank_low"], by_system["mlp"]["rank_high"]) == (1, 2)
    (curves,) = report.series
    lines = {label: dict(zip(xs, ys, strict=True)) for label, xs, ys in curves.lines}
    assert lines["mlp"][0.0] == 0.8
    assert min(lines["mlp"].values()) == pytest.approx(0.7)
    chart = next(value for name, value in run.summary["summary"].items() if name.startswith(curves.name))
    drawn = json.loads((run.folder / "files" / chart["path"]).read_text())
    assert len(drawn["data"]) == sum(len(xs) for _, xs, _ in curves.lines)
    files = run.artifact("leaderboard")
    assert "index.html" in files
    assert files["index.html"].read_bytes() == (tmp_path / "leaderboard" / "index.html").read_bytes()


def test_several_boards_have_names_of_their_own(tmp_path: Path) -> None:
    report = report_of(made_store(tmp_path, systems=2, attacks=2), "r")
    assert len({table.name for table in report.tables}) == len(report.tables) == 2
    assert all(len(row) == len(table.columns) for table in report.tables for row in table.rows)


def test_a_store_without_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="has no readable cell; name a store with --store"):
        report_of(tmp_path, "r")
