"""Replays: published witnesses judged again by ONNX Runtime, and what a board says of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.review.foreign import REPLAY, main, read_replay, replay, replays_of, with_replays
from benchmark_leaderboard.review.pack import pack
from benchmark_leaderboard.site.budget import error_budget

from benchmark.cli import main as cli
from benchmark.errors import RecordError, Unproved
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import small_config

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of one cell, and that cell published."""
    root = tmp_path_factory.mktemp("replayed")
    run(small_config(root, examples=60))
    pack([root / "results" / "cells"], root / "published")
    return root


def test_a_published_cell_is_judged_again_and_its_board_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = home / "published"
    arguments = [str(published), "--store", str(home / "results"), "--data", str(home / "data")]
    assert cli(["leaderboard", "replay", *arguments]) == 0
    ((cell,), _) = read([published])
    found = read_replay(cell.folder)
    assert found is not None
    assert found.witnesses == found.confirmed > 0
    assert (found.examples, found.clean_agree) == (60, 60)
    assert found.score_difference <= found.tolerance == 1e-4
    assert f"{found.witnesses} of {found.witnesses} witnesses agree under {found.runtime}" in capsys.readouterr().out
    replays, problems = replays_of([cell])
    assert not problems
    (board,) = with_replays(aggregate([cell]), replays).boards
    assert board.rows[0].replayed == (found.witnesses, found.witnesses)
    budget = error_budget(board, {}, [], replays)
    assert (budget.replayed, budget.replayed_rows, budget.unconfirmed) == (1, 1, 0)
    pages = (build([published], home / "site").parent / "boards").glob("*.html")
    (page,) = (text for path in pages if "no answer contradicts a record" in (text := path.read_text(encoding="utf-8")))
    assert f"{found.witnesses} of {found.witnesses}</td>" in page


def test_a_replay_is_deterministic_and_is_packed_with_its_cell(home: Path) -> None:
    ((cell,), _) = read([home / "results" / "cells"])
    once, twice = (replay(cell, Store(home / "results"), home / "data") for _ in range(2))
    assert once == twice
    main([home / "results" / "cells"], home / "results", home / "data")
    (folder,) = pack([home / "results" / "cells"], home / "again")
    assert read_replay(folder) == once


def test_a_system_that_a_later_version_describes_otherwise_is_found_by_its_weights(home: Path, tmp_path: Path) -> None:
    ((cell,), _) = read([home / "published"])
    system = Store(home / "results").system(cell.record.system.key)
    renamed = tmp_path / "systems" / ("a" * 24)
    renamed.mkdir(parents=True)
    card = json.loads((system / "card.json").read_bytes())
    card["system"]["config"]["training"]["added_later"] = 1
    card.update(key="a" * 24, sha256="")
    (renamed / "card.json").write_text(json.dumps(card), encoding="utf-8")
    (renamed / "weights.safetensors").write_bytes((system / "weights.safetensors").read_bytes())
    assert replay(cell, Store(tmp_path), home / "data").confirmed > 0
    card["weights_sha256"] = "0" * 64
    (renamed / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(Unproved, match="is not in"):
        replay(cell, Store(tmp_path), home / "data")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"record_sha256": "0" * 64}, "does not belong to the record"),
        ({"confirmed": 10**6}, "counts more answers than it was given"),
        ({"close": 1}, "counts more answers than it was given"),
        ({"runtime": "ONNX Runtime <script>"}, "is not a replay"),
        ({"witnesses": "12"}, "is not a replay"),
        ({"score_difference": -1.0}, "is not a replay"),
        ({"tolerance": 0.5}, "is not a replay"),
        ({"extra": 1}, "is not a replay"),
    ],
)
def test_a_replay_that_cannot_be_is_a_problem(
    home: Path, tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    main([home / "published"], home / "results", home / "data")
    ((cell,), _) = read([home / "published"])
    document = json.loads((cell.folder / REPLAY).read_bytes()) | change
    (tmp_path / "record.json").write_bytes((cell.folder / "record.json").read_bytes())
    (tmp_path / REPLAY).write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RecordError, match=sentence):
        read_replay(tmp_path)
    found, problems = replays_of([dataclasses.replace(cell, folder=tmp_path)])
    assert not found
    assert len(problems) == 1
