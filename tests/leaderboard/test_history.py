"""History of a worst case: the examples that fell, by day and attack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.history import events
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.leaderboard.made_records import made_cell

NONE = np.inf


def on(folder: Path, day: str) -> Path:
    """The cell in `folder`, made on that day."""
    path = folder / "record.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    if day:
        document["provenance"]["created"] = f"{day}T12:00:00Z"
    path.write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten examples, eight of them right. FGSM breaks 0; PGD 0, 1 and 2 a day later; noise nothing; then two more."""
    clean = [True] * 8 + [False] * 2
    on(made_cell(tmp_path, clean=clean, distance=[0.05] + [NONE] * 9, attack="fgsm"), "2026-01-01")
    on(made_cell(tmp_path, clean=clean, distance=[0.05] * 3 + [NONE] * 7, attack="pgd"), "2026-01-02")
    on(made_cell(tmp_path, clean=clean, distance=[NONE] * 10, attack="noise"), "2026-02-01")
    on(made_cell(tmp_path, clean=clean, distance=[NONE] * 5 + [0.05] * 2 + [NONE] * 3, attack="given"), "")
    return tmp_path


def test_each_day_says_what_fell_and_through_what(root: Path) -> None:
    (board,) = aggregate(*read([root])).boards
    steps = board.rows[0].history
    assert [(s.date, s.attacks, s.entered, s.robust.count, s.through) for s in steps] == [
        ("2026-01-01", ("fgsm",), 1, 7, ()),
        ("2026-01-02", ("pgd",), 0, 5, (("pgd", 2.0),)),
        ("2026-02-01", ("noise",), 0, 5, ()),
        ("", ("given",), 0, 3, (("given", 2.0),)),
    ]
    assert steps[-1].robust == board.rows[0].robust
    said = [event.what for event in events([(board, board.rows[0])], ())]
    assert said == [
        "First recorded, against fgsm",
        "Recorded pgd; the worst case fell: newly broken by pgd (2)",
        "Recorded noise; no further example was broken",
        "Recorded given; the worst case fell: newly broken by given (2)",
    ]


def test_a_day_at_another_radius_can_lower_this_one(tmp_path: Path) -> None:
    clean = [True] * 4
    on(made_cell(tmp_path, clean=clean, distance=[NONE] * 4, attack="fgsm"), "2026-01-01")
    on(made_cell(tmp_path, clean=clean, distance=[0.08, 0.15, NONE, NONE], eps="1/5"), "2026-01-03")
    small, large = aggregate(*read([tmp_path])).boards
    assert [(s.attacks, s.robust.count, s.through) for s in small.rows[0].history] == [
        (("fgsm",), 4, ()),
        ((), 3, (("pgd", 1.0),)),
    ]
    assert [s.robust.count for s in large.rows[0].history] == [2]


def test_a_second_seed_enters_later(tmp_path: Path) -> None:
    on(made_cell(tmp_path, clean=[True] * 4, distance=[0.05, NONE, NONE, NONE]), "2026-01-01")
    on(made_cell(tmp_path, clean=[True] * 4, distance=[0.05] * 3 + [NONE], seed=1), "2026-01-02")
    (board,) = aggregate(*read([tmp_path])).boards
    assert [(s.entered, s.robust.count) for s in board.rows[0].history] == [(1, 3), (1, 2)]


def test_what_was_withdrawn_stays_in_the_history_of_its_system_alone(root: Path) -> None:
    wrong = on(made_cell(root, clean=[True] * 10, distance=[NONE] * 10, attack="jsma"), "2026-01-05")
    made_cell(root, clean=[True] * 10, distance=[NONE] * 10, model="another")
    withdraw(wrong, "a bug in <b>jsma</b>")
    page = build([root], root / "site").parent
    told = [path.read_text(encoding="utf-8") for path in sorted((page / "systems").glob("*.html"))]
    sentence = f"Record of jsma at linf 1/10 ({wrong.name[:8]}) retracted: a bug in &lt;b&gt;jsma&lt;/b&gt;"
    assert [text.count(sentence) for text in told] in ([0, 1], [1, 0])
    table = json.loads(next((page / "systems").glob("*mlp*-history.json")).read_text(encoding="utf-8"))
    assert [row["date"] for row in table["rows"]][:3] == ["2026-01-01", "2026-01-02", "2026-02-01"]
    assert len(table["rows"]) == 5


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.lists(st.booleans(), min_size=6, max_size=6)), min_size=1, max_size=5))
def test_without_new_runs_a_history_never_rises_and_ends_at_the_number(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[int, list[bool]]]
) -> None:
    root = tmp_path_factory.mktemp("any")
    for at, (day, broken) in enumerate(found):
        folder = made_cell(root, clean=[True] * 6, distance=np.where(broken, 0.05, NONE), params={"steps": at})
        on(folder, f"2026-01-0{day}")
    (board,) = aggregate(*read([root])).boards
    counts = [step.robust.count for step in board.rows[0].history]
    assert counts == sorted(counts, reverse=True)
    assert board.rows[0].history[-1].robust == board.rows[0].robust
