"""Trust: nobody destroys, lifts or takes over a published row, and a proved attack on it is always welcome."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.cells.load import Cell, read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.suites import required_attacks
from benchmark_leaderboard.review.check import Proof, check
from benchmark_leaderboard.review.review import Review, put

from tests.leaderboard.made_records import made_cell
from tests.leaderboard.made_submission import CLEAN, FAR, Spoiler, made_submission

NOTHING = [np.inf] * 10
SAME = {"dataset": "made_up", "clean": CLEAN, "official": False}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A published row that noise does not break."""
    root = tmp_path / "results"
    made_cell(root, attack="noise", distance=NOTHING, **SAME)  # type: ignore[arg-type]
    return root


@pytest.fixture
def proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every witness is proved, as if the weights and the data were at hand."""

    def prove(root: Path, cells: dict[str, Cell], *_: object) -> dict[str, Proof]:
        return {key: Proof(True, False, "all broken examples proved") for key in cells}

    monkeypatch.setattr("benchmark_leaderboard.review.check._proved", prove)


def submitted(tmp_path: Path, **changes: Any) -> Path:
    return made_submission(tmp_path / "store", tmp_path / "parcel", **changes)


def refusal(parcel: Path, results: Path) -> str:
    (sentence,) = check(parcel, [results]).refusals
    return str(sentence)


def worst_case(results: Path, review: Review, into: Path) -> float:
    put(review, into)
    (board,) = aggregate(*read([results, into])).boards
    return float(board.rows[0].robust.count)


# --- clean answers and identity ---

FORGED = {
    "all of them wrong": [False] * 10,
    "one of them wrong": [True] * 7 + [False] * 3,
    "a wrong one right": [True] * 9 + [False],
}


@pytest.mark.usefixtures("proved")
@pytest.mark.parametrize("clean", FORGED.values(), ids=FORGED)
def test_clean_answers_of_a_published_system_cannot_be_forged(tmp_path: Path, results: Path, clean: list[bool]) -> None:
    spoiler = Spoiler(submitted(tmp_path, clean=clean, distance=NOTHING))
    spoiler.card(lambda d: d.update(test_correct=sum(clean)))
    assert re.search(r"gives other clean answers than \S+ for \d+ of 10 examples", refusal(spoiler.root, results))


def test_one_key_has_one_weights_hash(tmp_path: Path, results: Path) -> None:
    spoiler = Spoiler(submitted(tmp_path))
    spoiler.record(lambda d: d.update(weights_sha256="0" * 64))
    spoiler.card(lambda d: d.update(weights_sha256="0" * 64))
    assert "has other weights than cells/" in refusal(spoiler.root, results)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["system"]["config"]["training"].update(epochs=6),
        lambda d: d["system"]["config"]["model"].update(params={"width": 9}),
        lambda d: d.update(seed=7),
    ],
    ids=["training", "model", "seed"],
)
def test_a_key_that_is_not_the_content_address_of_its_system_is_refused(tmp_path: Path, change: Any) -> None:
    spoiler = Spoiler(submitted(tmp_path))
    spoiler.record(change)
    spoiler.card(change)
    assert "a key is the content address of its system" in refusal(spoiler.root, tmp_path / "none")


def test_a_system_that_reads_its_users_files_keeps_its_own_key(tmp_path: Path) -> None:
    spoiler = Spoiler(submitted(tmp_path))
    for rewrite in (spoiler.record, spoiler.card):
        rewrite(lambda d: d["system"]["config"]["model"].update(params={"weights": "mine/net.pt"}))
    assert check(spoiler.root).accepted


# --- only down, and only proved ---


@pytest.mark.usefixtures("proved")
def test_a_proved_attack_of_a_stranger_lowers_the_row(tmp_path: Path, results: Path) -> None:
    review = check(submitted(tmp_path), [results])
    assert review.accepted
    assert [one.tier for one in review.assessments] == ["witness-verified"]
    assert worst_case(results, review, tmp_path / "into") == 5


def test_an_attack_that_was_not_proved_lowers_no_published_row(tmp_path: Path, results: Path) -> None:
    assert "its witness was not proved; give the weights or the data" in refusal(submitted(tmp_path), results)


@pytest.mark.usefixtures("proved")
@pytest.mark.parametrize("distance", [FAR, NOTHING], ids=["broken", "unbroken"])
def test_a_stranger_adds_no_seed_to_a_published_row(tmp_path: Path, results: Path, distance: list[float]) -> None:
    assert "only its owner adds seeds to a row" in refusal(submitted(tmp_path, seed=5, distance=distance), results)


@pytest.mark.usefixtures("proved")
def test_nothing_broken_is_nothing_verified(tmp_path: Path, results: Path) -> None:
    (assessment,) = check(submitted(tmp_path, distance=NOTHING), [results]).assessments
    assert (assessment.tier, assessment.why) == ("self-reported", "it broke nothing, so there is no witness to prove")


def test_a_new_row_needs_no_proof(tmp_path: Path, results: Path) -> None:
    assert check(submitted(tmp_path, model="newcomer"), [results]).accepted


# --- superseding ---


def superseding(root: Path, links: dict[str, str]) -> tuple[dict[str, str], set[str], list[str]]:
    """Cells by a letter each, superseded as `links` say; the keys, the letters that stay, and the sentences."""
    letters = sorted({*links, *links.values()} - {"missing"})
    folders = {
        letter: made_cell(root, attack="pgd", params={"steps": at + 1}, distance=FAR, **SAME)  # type: ignore[arg-type]
        for at, letter in enumerate(letters)
    }
    for old, new in links.items():
        withdraw(folders[old], "better", by=folders[new].name if new in folders else "0" * 24)
    cells, problems = read([root])
    here = {cell.record.key for cell in cells}
    keys = {letter: folder.name for letter, folder in folders.items()}
    return keys, {letter for letter, key in keys.items() if key in here}, [problem.sentence for problem in problems]


@pytest.mark.parametrize(
    ("links", "stay"),
    [
        ({"a": "b", "b": "a"}, "ab"),
        ({"a": "b", "b": "c", "c": "a"}, "abc"),
        ({"x": "a", "a": "b", "b": "a"}, "abx"),
        ({"a": "b", "b": "c"}, "c"),
        ({"a": "missing"}, "a"),
    ],
    ids=["two", "three", "before a circle", "chain", "missing"],
)
def test_cells_that_supersede_each_other_do_not_vanish(tmp_path: Path, links: dict[str, str], stay: str) -> None:
    _, here, _ = superseding(tmp_path, links)
    assert here == set(stay)


def test_a_circle_is_named(tmp_path: Path) -> None:
    keys, _, sentences = superseding(tmp_path, {"a": "b", "b": "a"})
    assert any(
        sentence.endswith(f"{keys['b']}, which supersedes it, is superseded in a circle") for sentence in sentences
    )


def test_a_cell_is_not_superseded_by_another_system_or_by_a_failure(tmp_path: Path) -> None:
    old = made_cell(tmp_path, distance=FAR, **SAME)  # type: ignore[arg-type]
    other = made_cell(tmp_path, distance=FAR, model="cnn", **SAME)  # type: ignore[arg-type]
    broken = made_cell(tmp_path, distance=FAR, seed=1, status="failed", error="it broke", **SAME)  # type: ignore[arg-type]
    for by, why in ((other, "is of another system"), (broken, "is failed")):
        (withdraw(old, "better", by=by.name)).replace(old / "superseded.json")
        cells, problems = read([tmp_path])
        assert old.name in {cell.record.key for cell in cells}
        assert any(problem.sentence.endswith(f"{by.name}, which supersedes it, {why}") for problem in problems)
        (old / "superseded.json").unlink()


# --- suites and their attacks ---

QUICKSTART = ("noise", "fgsm", "bim", "pgd", "deepfool")


def row_of(root: Path, model: str, attacks: Sequence[str], broken: int = 0, **changes: Any) -> None:
    """A row of the suite quickstart@1 that the last of its attacks breaks in so many examples."""
    for attack in attacks:
        far = np.where(np.arange(10) < broken * (attack == attacks[-1]), 0.05, np.inf)
        made_cell(root, clean=[True] * 10, distance=far, attack=attack, model=model, suite="quickstart@1", **changes)


def ranks_of(root: Path) -> dict[str, tuple[int, int]]:
    (board,) = aggregate(*read([root])).boards
    return {row.label: (row.ranks.low, row.ranks.high) for row in board.rows if row.ranks}


def test_the_installed_suites_name_their_attacks() -> None:
    assert required_attacks("quickstart@1") == set(QUICKSTART)
    assert required_attacks("classic_digits@1") == {
        "none", "noise", "negative", "fgsm", "bim", "pgd", "deepfool", "carlini_wagner",
    }  # fmt: skip
    assert required_attacks("corruptions_digits@1") == {"corruption"}
    for unknown in (None, "", "quickstart", "quickstart@2", "robustbench@1", "../suite/quickstart@1"):
        assert required_attacks(unknown) is None


@pytest.mark.parametrize("easy", [("noise",), ("noise", "fgsm"), QUICKSTART[:-1]], ids=len)
def test_rows_that_met_fewer_attacks_take_no_rank_however_many_they_are(tmp_path: Path, easy: Sequence[str]) -> None:
    row_of(tmp_path, "weak", QUICKSTART, broken=9)
    row_of(tmp_path, "strong", QUICKSTART)
    honest = ranks_of(tmp_path)
    assert honest == {"strong": (1, 1), "weak": (2, 2)}
    for at in range(7):
        row_of(tmp_path, f"sybil{at}", easy)
    assert ranks_of(tmp_path) == honest


def test_every_run_of_a_row_must_meet_the_required_attacks(tmp_path: Path) -> None:
    row_of(tmp_path, "whole", QUICKSTART, broken=3)
    row_of(tmp_path, "half", QUICKSTART, broken=3)
    row_of(tmp_path, "half", QUICKSTART[:1], seed=1)
    assert set(ranks_of(tmp_path)) == {"whole"}
    row_of(tmp_path, "half", QUICKSTART[1:], seed=1)
    assert set(ranks_of(tmp_path)) == {"whole", "half"}


def test_an_attack_that_the_suite_does_not_name_is_not_required(tmp_path: Path) -> None:
    row_of(tmp_path, "plain", QUICKSTART)
    for model in ("a", "b", "c"):
        row_of(tmp_path, model, (*QUICKSTART, "given_examples"))
    assert set(ranks_of(tmp_path)) == {"plain", "a", "b", "c"}


@pytest.mark.parametrize("suite", ["quickstart@2", "robustbench@1", "quickstart", "made_v1"])
def test_nobody_is_official_in_a_suite_that_is_not_installed(tmp_path: Path, suite: str) -> None:
    parcel = submitted(tmp_path, suite=suite, official=True)
    assert f"calls itself official, and no suite {suite} is installed" in refusal(parcel, tmp_path / "none")
