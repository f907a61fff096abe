"""Trust: nobody destroys, lifts or takes over a published row, and a proved attack on it is always welcome."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.cells.cell import Cell
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.suites import required_attacks
from benchmark_leaderboard.review.check import check
from benchmark_leaderboard.review.claims import key_of
from benchmark_leaderboard.review.proofs import Proof
from benchmark_leaderboard.review.review import Review, put
from benchmark_leaderboard.review.tiers import claimed, reviews_of

from benchmark.errors import RecordError
from benchmark.records.document import system_key
from benchmark.records.record import Record
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

    monkeypatch.setattr("benchmark_leaderboard.review.check.prove", prove)


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
    assert re.search(r"has other clean predictions than \S+ for \d+ of 10 examples", refusal(spoiler.root, results))


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
    assert "its witness was not proved; provide the weights or the data" in refusal(submitted(tmp_path), results)


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
    assert any(sentence.endswith(f"its successor {keys['b']} is superseded in a cycle") for sentence in sentences)


def test_a_cell_is_not_superseded_by_another_system_or_by_a_failure(tmp_path: Path) -> None:
    old = made_cell(tmp_path, distance=FAR, **SAME)  # type: ignore[arg-type]
    other = made_cell(tmp_path, distance=FAR, model="cnn", **SAME)  # type: ignore[arg-type]
    broken = made_cell(tmp_path, distance=FAR, seed=1, status="failed", error="it broke", **SAME)  # type: ignore[arg-type]
    for by, why in ((other, "is of another system"), (broken, "is failed")):
        (withdraw(old, "better", by=by.name)).replace(old / "superseded.json")
        cells, problems = read([tmp_path])
        assert old.name in {cell.record.key for cell in cells}
        assert any(problem.sentence.endswith(f"its successor {by.name} {why}") for problem in problems)
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
    assert f"calls itself official, but no suite {suite} is installed" in refusal(parcel, tmp_path / "none")


# --- signatures and owners ---


class Signers:
    """Keys of people, and the file that allows them."""

    def __init__(self, root: Path, results: Path) -> None:
        self.root, self.results = root, results
        self.allowed = results / "allowed_signers"

    def key(self, who: str) -> Path:
        path = self.root / f"key-{who}"
        if not path.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path

    def allow(self, who: str) -> None:
        public = self.key(who).with_suffix(".pub").read_text()
        self.results.mkdir(parents=True, exist_ok=True)
        with self.allowed.open("a") as stream:
            stream.write(f"{who} {public}")

    def sign(self, parcel: Path, who: str, namespace: str = "adversarial-benchmark") -> Path:
        command = [
            "ssh-keygen",
            "-q",
            "-Y",
            "sign",
            "-f",
            str(self.key(who)),
            "-n",
            namespace,
            str(parcel / "manifest.json"),
        ]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        return parcel

    def parcel(self, who: str, **changes: Any) -> Path:
        name = f"{who}-{len(list(self.root.glob('parcel-*')))}"
        made = made_submission(self.root / f"store-{name}", self.root / f"parcel-{name}", **changes)
        return self.sign(made, who) if who != "nobody" else made


@pytest.fixture
def signers(tmp_path: Path) -> Signers:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    found = Signers(tmp_path, tmp_path / "published")
    for who in ("ann", "bob"):
        found.allow(who)
    return found


@pytest.mark.usefixtures("proved")
def test_the_owner_of_a_row_adds_seeds_and_nobody_else_does(signers: Signers) -> None:
    results = signers.results
    first = check(signers.parcel("ann"), [results])
    assert (first.signed_by, len(first.owned)) == ("ann", 1)
    put(first, results)
    for who in ("nobody", "bob"):
        assert "only its owner adds seeds" in refusal(signers.parcel(who, seed=1), results)
    mine = check(signers.parcel("ann", seed=1), [results])
    assert mine.accepted
    put(mine, results)
    (board,) = aggregate(*read([results])).boards
    assert [len(row.runs) for row in board.rows] == [2]


@pytest.mark.usefixtures("proved")
def test_only_another_signer_is_independent(signers: Signers) -> None:
    results = signers.results
    put(check(signers.parcel("ann", attack="storm", minimal=False), [results]), results)
    tiers = {
        who: [one.tier for one in check(signers.parcel(who), [results]).assessments] for who in ("bob", "ann", "nobody")
    }
    assert tiers == {"bob": ["independently attacked"], "ann": ["witness-verified"], "nobody": ["witness-verified"]}


@pytest.mark.usefixtures("proved")
def test_an_attack_makes_nobody_the_owner(signers: Signers) -> None:
    results = signers.results
    put(check(signers.parcel("ann", attack="storm", minimal=False), [results]), results)
    put(check(signers.parcel("bob"), [results]), results)
    assert "only its owner adds seeds" in refusal(signers.parcel("bob", seed=1), results)
    assert check(signers.parcel("ann", seed=1), [results]).accepted


@pytest.mark.usefixtures("proved")
def test_rows_that_were_never_signed_belong_to_the_maintainers(signers: Signers) -> None:
    put(check(signers.parcel("nobody"), [signers.results]), signers.results)
    assert "only its owner adds seeds" in refusal(signers.parcel("ann", seed=1), signers.results)


def test_a_signature_that_is_none_is_refused(signers: Signers, tmp_path: Path) -> None:
    def sentence(parcel: Path) -> str:
        with pytest.raises(RecordError) as caught:
            check(parcel, [signers.results])
        return str(caught.value)

    wrong = "is not a signature of this manifest.json by one of the allowed_signers"
    assert wrong in sentence(signers.parcel("mallory"))
    assert wrong in sentence(signers.sign(signers.parcel("nobody"), "ann", namespace="git"))
    Spoiler(changed := signers.parcel("ann")).manifest(lambda d: d.update(note="another note"))
    assert wrong in sentence(changed)
    (garbage := signers.parcel("nobody") / "manifest.json.sig").write_text("-----BEGIN SSH SIGNATURE-----")
    assert wrong in sentence(garbage.parent)
    stolen = signers.parcel("nobody", model="mine")
    shutil.copyfile(signers.parcel("ann") / "manifest.json.sig", stolen / "manifest.json.sig")
    assert wrong in sentence(stolen)
    signers.allowed.unlink()
    assert "there is no allowed_signers beside" in sentence(signers.parcel("ann"))


def test_a_key_has_one_owner(signers: Signers) -> None:
    """Whoever adds somebody else's public key under a name of their own takes over nothing."""
    for line in ("bob {}", 'bob namespaces="git" {}', "ann,bob {}", "* {}"):
        kept = signers.allowed.read_text()
        public = signers.key("ann").with_suffix(".pub").read_text()
        others = [one for one in kept.splitlines() if not one.startswith("ann ")]
        first = [line.format(public.strip())]
        signers.allowed.write_text(
            "\n".join([*first, *others, *(["ann " + public.strip()] if line.startswith("bob") else [])])
        )
        with pytest.raises(RecordError, match=r"one key for bob and ann|names '.*'; expected one person"):
            check(signers.parcel("ann"), [signers.results])
        signers.allowed.write_text(kept)


@pytest.mark.usefixtures("proved")
def test_a_row_whose_cells_were_all_withdrawn_keeps_its_owner(signers: Signers) -> None:
    results = signers.results
    put(check(signers.parcel("ann"), [results]), results)
    for record in list(results.rglob("record.json")):
        withdraw(record.parent, "trained on the test split")
    review = check(signers.parcel("bob", attack="storm", minimal=False), [results])
    assert (review.accepted, review.owned) == (True, frozenset())
    assert check(signers.parcel("ann", attack="storm", minimal=False, seed=1), [results]).owned


# --- certificates ---


@pytest.mark.usefixtures("proved")
def test_certificates_need_the_reviewers_own_run(tmp_path: Path, results: Path) -> None:
    radii = [0.0] * 3 + [1.0] * 5 + [0.0] * 2
    changes: dict[str, Any] = {"certified": radii, "distance": [0.05, 0.08, 0.09, *[np.inf] * 7], "model": "certified"}
    parcel = submitted(tmp_path, **changes)
    assert "certifies 5 examples, but no witness proves a radius" in refusal(parcel, results)
    assert check(parcel, [results], store=tmp_path / "store").accepted
    made_cell(results, attack="noise", **{**SAME, **changes, "distance": NOTHING})
    assert check(parcel, [results]).accepted, "the same radii are published"


# --- keys that name the harness ---


def test_a_key_that_names_the_harness_follows_from_the_record_alone(tmp_path: Path) -> None:
    spoiler = Spoiler(submitted(tmp_path, model="mine"))

    def with_harness(document: dict[str, Any]) -> None:
        document["system"]["config"].update(harness="0.2.0", init_from="mine/net.pt")

    for rewrite in (spoiler.record, spoiler.card):
        rewrite(with_harness)
    assert "a key is the content address of its system" in refusal(spoiler.root, tmp_path / "none")
    system = Record.model_validate_json((spoiler.cell / "record.json").read_bytes()).system
    assert key_of(system, 0, "r1") == system_key(system.config, 0, "r1")


def test_a_cell_key_that_names_the_harness_follows_from_the_record_alone(tmp_path: Path) -> None:
    spoiler = Spoiler(submitted(tmp_path, model="mine"))
    spoiler.record(lambda d: d.update(harness="0.2.0"))
    assert re.search(r"has the key \w{24}, but its settings give \w{24}", refusal(spoiler.root, tmp_path / "none"))


def unranked(results: Sequence[Path]) -> set[str]:
    """Names of the systems without a rank, on the one board of these results; each says why."""
    cells, problems = read(results)
    (board,) = aggregate(cells, problems, claimed(reviews_of(cells)[0])).boards
    told = {row.key for row in board.rows if "unproved" in [alarm.name for alarm in row.alarms]}
    assert told == {row.key for row in board.rows if row.ranks is None}
    return {row.label for row in board.rows if row.ranks is None}


def test_a_row_has_no_rank_while_nobody_but_its_author_has_checked_an_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    made_cell(results, clean=CLEAN, distance=FAR, attack="fmn", minimal=True, dataset="made_up", official=False)
    boast = check(submitted(tmp_path, model="boast", distance=NOTHING), [results])
    assert [one.tier for one in boast.assessments] == ["self-reported"]
    assert {effect.rank for effect in boast.effects if "boast" in effect.row} == {"not ranked"}
    put(boast, tmp_path / "into")
    assert unranked([results, tmp_path / "into"]) == {"boast"}
    monkeypatch.setattr("benchmark_leaderboard.review.check.rerun", lambda cell, store: True)
    again = check(tmp_path / "parcel", [results])
    assert [one.tier for one in again.assessments] == ["re-run"]
    put(again, tmp_path / "again")
    assert unranked([results, tmp_path / "again"]) == set()


def test_a_witness_of_noise_proves_nothing_of_the_attacks(tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    for attack, distance in (("noise", FAR), ("fmn", NOTHING)):
        made_cell(cells, clean=CLEAN, distance=distance, attack=attack, dataset="made_up", official=False)
    found, problems = read([cells])
    (told,) = (cell.record.key for cell in found if cell.record.attack.name == "fmn")
    (board,) = aggregate(found, problems, {told}).boards
    assert [row.ranks for row in board.rows] == [None]
