"""Detectors on a board: what they saw, what they were fitted on, and their curves against those of the metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.board import Board
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.cell import Cell
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.cells.suspicion import Suspicion, read_suspicion
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.detectors import detected, risk_points, roc_points
from benchmark_leaderboard.review.pack import pack
from safetensors.numpy import load_file, save_file

from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256
from benchmark.records.record import MetricValue, read_record
from tests.leaderboard.made_records import made_cell

N = 40


def scores(seed: int = 0) -> Suspicion:
    rng = np.random.default_rng(seed)
    clean = rng.normal(-2, 1, N).round(1).astype(np.float32)
    attacked = rng.normal(-1, 1, N).round(1).astype(np.float32)
    return Suspicion(clean, attacked, rng.random(N) < 0.1, rng.random(N) < 0.6, rng.random(N) < 0.9)


def guarded(root: Path, attack: str, fitted_on: dict[str, list[str]], of: Suspicion) -> Path:
    """A cell of a system with detectors whose scores are given."""
    distance = np.where(np.arange(N) < 10, 0.05, np.inf)
    metrics = [
        MetricValue(name="detection_auroc", value=0.8, low=0.7, high=0.9, unit="fraction", higher_is_better=True)
    ]
    folder = made_cell(root, clean=[True] * N, distance=distance, attack=attack, defenses=["magnet"], metrics=metrics)
    arrays: dict[str, Any] = load_file(folder / "outcomes.safetensors")
    y = arrays["y"]
    arrays.update(
        clean_suspicion=of.clean, adv_suspicion=of.attacked, attacked=of.tried,
        clean_predicted=np.where(of.clean_wrong, y + 1, y), adv_predicted=np.where(of.attacked_wrong, y + 1, y),
    )  # fmt: skip
    save_file(arrays, folder / "outcomes.safetensors")
    record = read_record(folder)
    files = [
        f.model_copy(update={"bytes": (folder / f.path).stat().st_size, "sha256": file_sha256(folder / f.path)})
        for f in record.files
    ]
    record = record.model_copy(update={"fitted_on": fitted_on, "files": files})
    (folder / "record.json").write_text(to_text(record), encoding="utf-8")
    return folder


def the_board(root: Path) -> tuple[Board, dict[str, Cell]]:
    cells, problems = read([root])
    assert not problems
    (board,) = aggregate(cells).boards
    return board, {cell.record.key: cell for cell in cells}


@pytest.mark.parametrize("seed", range(5))
def test_the_area_below_the_curve_is_that_of_all_pairs_where_no_scores_tie(seed: int) -> None:
    rng = np.random.default_rng(seed)
    of = scores(seed)
    clean, attacked = rng.permutation(2 * N).astype(np.float32).reshape(2, N)
    of = Suspicion(clean, attacked, of.clean_wrong, of.attacked_wrong, of.tried)
    x, y = np.array(roc_points(of))[:, :2].T
    pairs = (of.deceptive[:, None] > of.clean[None, :]).mean()
    assert np.sum(np.diff(x) * y[:-1]) == pytest.approx(pairs)
    assert (np.diff(x) > 0).all() or x[-1] == x[-2] == 1
    assert (np.diff(y) >= 0).all()


def test_the_roc_starts_without_false_positives_and_counts_deceptive_candidates_only() -> None:
    of = Suspicion(
        np.array([0, 1, 2, 3], np.float32), np.array([5, 2.5, -1, 9], np.float32),
        np.zeros(4, bool), np.array([True, True, True, False]), np.array([True, True, True, True]),
    )  # fmt: skip
    assert [point[:2] for point in roc_points(of)] == [
        (0.0, pytest.approx(1 / 3)), (0.25, pytest.approx(2 / 3)), (0.5, pytest.approx(2 / 3)),
        (0.75, pytest.approx(2 / 3)), (1.0, 1.0),
    ]  # fmt: skip
    nobody = Suspicion(of.clean, of.attacked, of.clean_wrong, np.zeros(4, bool), of.tried)
    assert roc_points(nobody) == []


def test_the_risk_curve_is_that_of_the_metric() -> None:
    torch = pytest.importorskip("torch")
    from benchmark_plugins.metrics._risk import expected_errors

    of = scores(3)
    errors = expected_errors(torch.tensor(of.attacked), torch.tensor(of.attacked_wrong)).numpy()
    coverage, risk = np.array(risk_points(of.attacked, of.attacked_wrong))[:, :2].T
    assert risk == pytest.approx(errors / np.arange(1, N + 1))
    assert coverage[-1] == 1.0
    assert risk[-1] == pytest.approx(of.attacked_wrong.mean())


def test_seen_attacks_stand_apart_and_the_board_says_what_a_detector_was_fitted_on(tmp_path: Path) -> None:
    guarded(tmp_path, "pgd", {"magnet": ["pgd"]}, scores(1))
    guarded(tmp_path, "fgsm", {"magnet": ["pgd"]}, scores(2))
    made_cell(tmp_path, clean=[True] * N, distance=[np.inf] * N, attack="pgd")
    board, cells = the_board(tmp_path / "cells")
    lines = detected(board, {key: cell.record for key, cell in cells.items()})
    assert [(one.row.label, one.column.name, one.seen) for one in lines] == [
        ("mlp + magnet", "fgsm", False), ("mlp + magnet", "pgd", True),
    ]  # fmt: skip
    auroc = lines[0].measured("detection_auroc")
    assert auroc is not None
    assert auroc.value == 0.8
    site = build([tmp_path / "cells"], tmp_path / "site").parent
    (page,) = (p for p in (site / "boards").glob("*.html") if "detectors-table" in p.read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    assert "<td>pgd</td><td>fgsm</td><td>unseen</td>" in text
    assert "<td>pgd</td><td>pgd</td><td>seen</td>" in text
    assert "Receiver operating characteristic of the detectors" in text
    assert "Risk against coverage" in text
    assert "detection auroc" not in text.partition("detectors-table")[0]
    assert (page.with_name(page.name.replace(".html", "-detectors.csv"))).is_file()
    (system,) = (p for p in (site / "systems").glob("*magnet*.html"))
    assert "<dt>Detectors fitted on</dt><dd>magnet: pgd</dd>" in system.read_text(encoding="utf-8")


def test_a_detector_of_clean_examples_has_seen_no_attack(tmp_path: Path) -> None:
    guarded(tmp_path, "pgd", {"magnet": []}, scores(1))
    board, cells = the_board(tmp_path / "cells")
    (line,) = detected(board, {key: cell.record for key, cell in cells.items()})
    assert (line.fitted_on, line.seen) == ({"magnet": ()}, False)


def test_packed_cells_have_the_same_scores_and_the_same_site(tmp_path: Path) -> None:
    guarded(tmp_path / "raw", "pgd", {"magnet": ["fgsm"]}, scores(1))
    pack([tmp_path / "raw" / "cells"], tmp_path / "packed", link="")
    raw, small = (read([tmp_path / name])[0][0] for name in ("raw/cells", "packed"))
    one, other = read_suspicion(raw), read_suspicion(small)
    assert one is not None
    assert other is not None
    for name in ("clean", "attacked", "clean_wrong", "attacked_wrong", "tried"):
        assert (getattr(one, name) == getattr(other, name)).all(), name
    sites = [build([tmp_path / name], tmp_path / f"site-{name[:3]}").parent for name in ("raw/cells", "packed")]
    pages = [{p.relative_to(s): p.read_bytes() for p in s.rglob("*") if p.is_file()} for s in sites]
    assert pages[0] == pages[1]


def test_scores_that_are_no_numbers_or_too_few_draw_nothing(tmp_path: Path) -> None:
    for at, change in enumerate((np.nan, "short")):
        of = scores(at)
        if change == "short":
            of = Suspicion(of.clean[:-1], of.attacked, of.clean_wrong, of.attacked_wrong, of.tried)
        else:
            of.clean[0] = np.nan
        folder = guarded(tmp_path / str(at), "pgd", {"magnet": []}, of)
        (cell,) = read([folder.parent])[0]
        assert read_suspicion(cell) is None
