"""Submissions: sound ones are packed, accepted and attributed; what was published is never replaced."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_leaderboard.cells.load import Cell, read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.review.check import check, main
from benchmark_leaderboard.review.parcel import Submitter, opened
from benchmark_leaderboard.review.proofs import Proof
from benchmark_leaderboard.review.review import comment, read_review
from benchmark_leaderboard.review.submission import pack_submission

from benchmark.cli import main as cli
from benchmark.errors import RecordError
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import plugin, small_config
from tests.leaderboard.made_records import made_cell
from tests.leaderboard.made_submission import CLEAN, FAR, Spoiler, made_card, made_submission


def test_what_is_packed_is_accepted_as_folder_and_as_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("parcel.zip", "parcel"):
        assert main(made_submission(tmp_path / "store", tmp_path / name), [], store=None, data=tmp_path, into=None) == 0
        said = capsys.readouterr().out
        assert said.startswith("## Can be accepted\n\nSubmitted by `Somebody`, not signed.\n")
        assert "| `mlp` | `fmn` | 5 of 10 | self-reported | `its data are not available` |" in said
        assert "| `made_v1 (changed), made_up, linf 1/10` | `mlp` | 0.5000 of 10 | not ranked | `new` |" in said


def test_the_same_cells_give_the_same_zip(tmp_path: Path) -> None:
    one = made_submission(tmp_path / "store", tmp_path / "one.zip")
    two = made_submission(tmp_path / "store", tmp_path / "two.zip")
    assert one.read_bytes() == two.read_bytes()


def test_an_accepted_submission_is_added_with_its_review_and_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parcel, results = made_submission(tmp_path / "store", tmp_path / "parcel.zip"), tmp_path / "results"
    assert main(parcel, [results], store=None, data=tmp_path, into=results) == 0
    (cell,) = read([results], files=True)[0]
    assert cell.place.startswith("made_v1/")
    review = read_review(cell.folder)
    assert review is not None
    assert (review.tier, review.submitter.name, review.key) == ("self-reported", "Somebody", cell.record.key)
    capsys.readouterr()
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert main(parcel, [results], store=None, data=tmp_path, into=results) == 1
    said = capsys.readouterr().out
    assert (
        f"is published already, as made_v1/{cell.record.key}/record.json; supersede that record if it was wrong" in said
    )
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
    (cell.folder / "record.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecordError, match=r"review\.json does not belong to the record\.json beside it"):
        read_review(cell.folder)


def test_the_review_tells_what_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(root: Path, cells: dict[str, Cell], *_: object) -> dict[str, Proof]:
        return {key: Proof(True, False, "all broken examples proved") for key in cells}

    monkeypatch.setattr("benchmark_leaderboard.review.check.prove", prove)
    results = tmp_path / "results"
    same = {"attack": "fmn", "minimal": True, "dataset": "made_up", "official": False}
    made_cell(results, clean=[True] * 10, distance=[np.inf] * 10, model="cnn", **same)  # type: ignore[arg-type]
    with opened(made_submission(tmp_path / "store", tmp_path / "parcel")) as root:
        review = check(root, [results])
    assert {(e.row, e.before) for e in review.effects} == {("mlp", "new"), ("cnn", "1, 1.0000")}
    assert {e.rank for e in review.effects} == {"1 to 2"}, "ten examples do not tell them apart"


def test_the_reviewers_own_run_makes_a_re_run_or_a_refusal(tmp_path: Path) -> None:
    parcel = made_submission(tmp_path / "store", tmp_path / "parcel")
    review = check(parcel, store=tmp_path / "store")
    assert [v.tier for v in review.assessments] == ["re-run"]
    (path,) = (tmp_path / "store").rglob("record.json")
    path.write_text(path.read_text(encoding="utf-8").replace('"backwards": 80', '"backwards": 81'), encoding="utf-8")
    (refusal,) = check(parcel, store=tmp_path / "store").refusals
    assert refusal.endswith("differs from the cell that was run here")


def test_the_same_weights_under_another_name_are_mentioned(tmp_path: Path) -> None:
    results = tmp_path / "results"
    made_submission(results, tmp_path / "first", model="cnn")
    record = read_record(next((results / "cells").iterdir()))
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    spoiler.record(lambda d: d.update(weights_sha256=record.weights_sha256))
    spoiler.card(lambda d: d.update(weights_sha256=record.weights_sha256))
    (warning,) = check(tmp_path / "parcel", [results]).warnings
    assert "has the weights of cells/" in warning


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--name", "A", "--url", "http://plain"], "--url is 'http://plain': String should match pattern '^(https://"),
        (["--name", "x" * 101], f"--name is '{'x' * 80}': String should have at most 100 characters"),
    ],
)
def test_a_submitter_that_cannot_be_is_one_sentence(
    given: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["submit", str(tmp_path), "--out", str(tmp_path / "out.zip"), *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"benchmark: {sentence}")
    assert said.count("\n") == 1


def test_text_of_a_submitter_cannot_leave_its_place_in_the_review(tmp_path: Path) -> None:
    parcel = made_submission(tmp_path / "store", tmp_path / "parcel")
    spoiler = Spoiler(parcel)
    spoiler.manifest(lambda d: d.update(note="a `b` | c\n# Heading\n![x](y) @everybody"))
    text = comment(check(parcel))
    assert "Note: `a 'b' \u00a6 c # Heading ![x](y) @everybody`" in text
    assert "\n# Heading" not in text


# --- packing ---


def test_only_sound_and_complete_cells_are_packed(tmp_path: Path) -> None:
    folder = made_cell(tmp_path, clean=CLEAN, distance=FAR, attack="fmn", minimal=True)
    with pytest.raises(RecordError, match=r"has its card\.json; name the store of its run with --store"):
        pack_submission([tmp_path], tmp_path / "another", tmp_path / "out.zip", submitter=Submitter(name="A"))
    made_card(tmp_path / "another", read_record(folder))
    pack_submission([tmp_path], tmp_path / "another", tmp_path / "elsewhere.zip", submitter=Submitter(name="A"))
    made_card(tmp_path, read_record(folder))
    made_cell(tmp_path, clean=CLEAN, distance=FAR, status="failed", error="it broke", seed=1)
    manifest = pack_submission([tmp_path], tmp_path / "empty", tmp_path / "out.zip", submitter=Submitter(name="A"))
    assert len(manifest.files) == 4
    with pytest.raises(RecordError, match="exists already; name a new file or folder"):
        pack_submission([tmp_path], tmp_path, tmp_path / "out.zip", submitter=Submitter(name="A"))
    with pytest.raises(RecordError, match="no complete cell under"):
        pack_submission([tmp_path / "systems"], tmp_path, tmp_path / "other.zip", submitter=Submitter(name="A"))
    (folder / "witness.safetensors").unlink()
    with pytest.raises(RecordError, match=r"witness\.safetensors is missing"):
        pack_submission([tmp_path], tmp_path, tmp_path / "other.zip", submitter=Submitter(name="A"))
    assert not list(tmp_path.glob(".*"))


def test_the_command_line_packs_checks_and_retracts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_submission(tmp_path, tmp_path / "unused")
    out, results = str(tmp_path / "p.zip"), str(tmp_path / "results")
    assert cli(["submit", str(tmp_path / "cells"), "--store", str(tmp_path), "--out", out, "--name", "A"]) == 0
    assert "1 cells, 4 files" in capsys.readouterr().out
    assert cli(["leaderboard", "check", out, "--into", results]) == 0
    (record,) = Path(results).rglob("record.json")
    assert cli(["leaderboard", "retract", str(record.parent), "--reason", "wrong labels"]) == 0
    cells, (problem,) = read([Path(results)])
    assert not cells
    assert "was retracted on " in problem.sentence
    assert problem.sentence.endswith(": wrong labels")
    (tmp_path / "p.zip").write_bytes(b"PK")
    assert cli(["leaderboard", "check", out]) == 1
    assert "cannot be unpacked" in capsys.readouterr().out


# --- real systems ---


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `benchmark verify` without a process of its own, which would import torch again each time."""

    real = subprocess.run

    def verify(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        if command[:3] != [sys.executable, "-m", "benchmark"]:
            return real(command, **how)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            status = cli(command[3:])
        return subprocess.CompletedProcess(command, status, said.getvalue(), "")

    monkeypatch.setattr("benchmark_leaderboard.review.proofs.subprocess.run", verify)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cells: PGD on two systems, FGSM on the first."""
    root = tmp_path_factory.mktemp("cells")
    for seed, attack in ((0, plugin("attack", "pgd", steps=5)), (1, plugin("attack", "pgd", steps=5)),
                         (0, plugin("attack", "fgsm"))):  # fmt: skip
        assert run(small_config(root, attack=attack, seed=seed)).status == "complete"
    return root / "results"


def cell_of(store: Path, attack: str, seed: int = 0) -> Path:
    (found,) = [r.key for r in Store(store).records() if (r.attack.name, r.seed) == (attack, seed)]
    return Store(store).cell(found)


def packed(store: Path, cell: Path, out: Path, *, name: str = "A", weights: bool = True) -> Path:
    pack_submission([cell], store, out, submitter=Submitter(name=name), weights=weights)
    return out


def test_a_witness_is_proved_by_another_process(store: Path, tmp_path: Path) -> None:
    (verdict,) = check(packed(store, cell_of(store, "pgd"), tmp_path / "parcel"), data=tmp_path).assessments
    assert verdict.tier == "witness-verified"
    assert re.fullmatch(r"(\d+) of \1 broken examples proved, 500 clean answers", verdict.why)


@pytest.mark.usefixtures("in_this_process")
def test_the_witness_of_another_system_is_refused(store: Path, tmp_path: Path) -> None:
    mine, theirs = cell_of(store, "pgd"), cell_of(store, "pgd", seed=1)
    swapped = Spoiler(packed(store, mine, tmp_path / "parcel"))
    for path in theirs.glob("*.safetensors"):
        shutil.copyfile(path, swapped.cell / path.name)
    stolen = json.loads((theirs / "record.json").read_bytes())
    swapped.record(lambda d: d.update({name: stolen[name] for name in ("counts", "cost", "audit", "metrics", "files")}))
    (refusal,) = check(tmp_path / "parcel", data=tmp_path).refusals
    assert "clean examples of 500, but the card of its system says" in refusal
    swapped.card(lambda d: d.update(test_correct=stolen["counts"]["clean_correct"]))
    (refusal,) = check(tmp_path / "parcel", data=tmp_path).refusals
    assert re.fullmatch(rf"cells/{mine.name}: the system predicts \d+ for the clean example \d+, .*", refusal)


def test_a_card_that_does_not_have_its_checksum_is_refused(store: Path, tmp_path: Path) -> None:
    spoiler = Spoiler(packed(store, cell_of(store, "pgd"), tmp_path / "parcel"))
    spoiler._json(spoiler.system / "card.json", lambda d: d.update(seconds=d["seconds"] + 1))
    (refusal,) = check(tmp_path / "parcel").refusals
    assert "does not match its own sha256" in refusal


@pytest.mark.usefixtures("in_this_process")
def test_without_weights_the_distances_are_measured_all_the_same(store: Path, tmp_path: Path) -> None:
    cell = cell_of(store, "pgd")
    parcel = packed(store, cell, tmp_path / "parcel", weights=False)
    (verdict,) = check(parcel, data=tmp_path).assessments
    assert verdict.tier == "self-reported"
    assert verdict.why.endswith("candidates have the distances in the outcomes; its system's weights are not available")
    moved = Spoiler(parcel)
    (moved.cell / "gallery.safetensors").unlink()
    moved.record(lambda d: d.update(files=[f for f in d["files"] if f["path"] != "gallery.safetensors"]))
    moved.arrays("witness.safetensors", lambda a: a["x_adv"].__setitem__(0, 1 - a["x_adv"][0]))
    (refusal,) = check(parcel, data=tmp_path).refusals
    assert re.fullmatch(rf"cells/{cell.name}: the witness of example \d+ is beyond the radius", refusal)
    shutil.copyfile(store / "systems" / moved.system.name / "weights.safetensors", moved.system / "weights.safetensors")
    moved.seal_manifest()
    (refusal,) = check(parcel, data=tmp_path).refusals
    assert re.fullmatch(rf"cells/{cell.name}: the witness of example \d+ is outside the threat", refusal)


CODE = """
from pathlib import Path

from torch import nn

Path(__file__).with_name("imported").touch()


class MyNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
"""


def test_a_check_never_imports_the_code_of_a_submitter(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "net.py").write_text(CODE)
    torch.save({"1.weight": torch.eye(10, 64), "1.bias": torch.zeros(10)}, home / "w.pt")
    model = plugin("model", "file", path=str(home / "net.py"), factory="MyNet", weights=str(home / "w.pt"))
    result = run(small_config(tmp_path, model=model))
    assert result.status == "complete", result.error
    cell = tmp_path / "results" / "cells" / result.key
    parcel = packed(tmp_path / "results", cell, tmp_path / "parcel")
    (home / "imported").unlink()  # by the run, and by whoever packs it
    (verdict,) = check(parcel, data=tmp_path).assessments
    assert verdict.tier == "self-reported"
    assert verdict.why.endswith("its model is the submitter's own code, which no check runs")
    assert not (home / "imported").exists()


@pytest.mark.usefixtures("in_this_process")
def test_examples_that_are_not_the_datasets_are_refused(tmp_path: Path) -> None:
    made_submission(tmp_path / "store", tmp_path / "parcel", dataset="digits")
    (refusal,) = check(tmp_path / "parcel", data=tmp_path).refusals
    assert refusal.endswith("the dataset gives another example list than the record")


def test_a_picture_that_is_not_the_witness_is_refused(store: Path, tmp_path: Path) -> None:
    spoiler = Spoiler(packed(store, cell_of(store, "pgd"), tmp_path / "parcel", weights=False))
    for change in (
        lambda a: a["adv"].__setitem__((0, 0), 0.5),
        lambda a: a["clean"].__setitem__((0, 0), 0.5),
        lambda a: a["y"].__setitem__(0, 7 - a["y"][0]),
    ):
        kept = (spoiler.cell / "gallery.safetensors").read_bytes()
        spoiler.arrays("gallery.safetensors", change)
        (refusal,) = check(tmp_path / "parcel").refusals
        assert "contradicts outcomes.safetensors and witness.safetensors on example" in refusal
        spoiler.replace("gallery.safetensors", kept)


# --- withdrawing ---


def test_a_superseded_cell_leaves_the_board_and_stays_on_disk(tmp_path: Path) -> None:
    old = made_cell(tmp_path, clean=CLEAN, distance=FAR, minimal=True)
    new = made_cell(tmp_path, clean=CLEAN, distance=FAR, minimal=True, params={"steps": 2})
    assert len(aggregate(*read([tmp_path])).boards[0].columns) == 2
    withdraw(old, "a bug in the attack", by=new.name)
    cells, (problem,) = read([tmp_path])
    assert [cell.record.key for cell in cells] == [new.name]
    assert problem.sentence.startswith(f"cells/{old.name}/record.json was superseded by {new.name} on ")
    assert (old / "record.json").is_file()
    with pytest.raises(RecordError, match="was withdrawn before; a withdrawal cannot be changed"):
        withdraw(old, "another reason")
    shutil.rmtree(new)
    cells, (problem,) = read([tmp_path])
    assert [cell.record.key for cell in cells] == [old.name]
    assert problem.sentence.endswith(f"stays: its successor {new.name} is not here")


def test_a_withdrawal_needs_a_record_a_reason_and_a_key(tmp_path: Path) -> None:
    folder = made_cell(tmp_path, clean=CLEAN, distance=FAR)
    for arguments, sentence in [
        ((tmp_path, "r", ""), r"has no record\.json; give the folder of a published cell"),
        ((folder, "", ""), "reason: String should have at least 1 character"),
        ((folder, "r", "latest"), "by: String should match pattern"),
        ((folder, "r", folder.name), "cannot supersede itself"),
    ]:
        with pytest.raises(RecordError, match=sentence):
            withdraw(arguments[0], arguments[1], by=arguments[2])
    (folder / "retracted.json").write_text("{}", encoding="utf-8")
    cells, (problem,) = read([tmp_path])
    assert len(cells) == 1
    assert "stays on its boards" in problem.sentence


def test_an_archive_of_another_tool_works_too(tmp_path: Path) -> None:
    """Folders as entries, no modes, stored instead of deflated."""
    parcel = made_submission(tmp_path / "store", tmp_path / "parcel")
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for path in sorted(parcel.rglob("*")):
            archive.write(path, path.relative_to(parcel).as_posix() + ("/" if path.is_dir() else ""))
    with opened(tmp_path / "made.zip") as root:
        assert check(root).accepted
