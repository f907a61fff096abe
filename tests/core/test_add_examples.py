"""Candidates that somebody gives are judged like the run's own, and the worst case falls."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.review.check import check
from benchmark_leaderboard.review.parcel import Submitter
from benchmark_leaderboard.review.submission import pack_submission
from safetensors.torch import save_file

from benchmark.cli import main
from benchmark.commands.add_examples import record_given
from benchmark.errors import RecordError
from benchmark.records.outcomes import Outcomes
from benchmark.records.store import Store
from benchmark.records.witness import Witness
from benchmark.run import run
from tests.core.cells import plugin, small_config


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(root, a weak cell that is published, the folder of a stronger attack on the same system)."""
    root = tmp_path_factory.mktemp("given")
    weak = run(small_config(root, attack=plugin("attack", "noise"), examples=60))
    strong = run(small_config(root, attack=plugin("attack", "pgd", steps=5), examples=60))
    store = Store(root / "results")
    return root, store.cell(weak.key), store.cell(strong.key)


def given(strong: Path, file: Path, rows: slice = slice(None)) -> Path:
    witness = Witness.load(strong / "witness.safetensors")
    save_file({"ids": witness.ids[rows].clone(), "x_adv": witness.x_adv[rows].clone()}, str(file))
    return file


def robust(root: Path) -> int:
    (board,) = aggregate(*read([root / "results" / "cells"])).boards
    (row,) = board.rows
    return int(row.robust.count)


def test_given_examples_lower_the_row_and_can_be_proved_and_submitted(
    world: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, weak, strong = world
    aside = strong.rename(tmp_path / "strong")
    before = robust(root)
    file = given(aside, tmp_path / "mine.safetensors")
    words = [
        "add-examples",
        str(weak),
        "--examples",
        str(file),
        "--store",
        str(root / "results"),
        "--data",
        str(tmp_path),
    ]
    assert main(words) == 0
    cell = Path(capsys.readouterr().out.partition(":")[0])
    theirs, mine = (Outcomes.load(folder / "outcomes.safetensors").tensors() for folder in (aside, cell))
    for name in ("broken", "linf", "l2", "clean_label"):
        assert torch.equal(theirs[name], mine[name]), name
    fallen = int((theirs["broken"] | Outcomes.load(weak / "outcomes.safetensors").broken).sum())
    assert robust(root) == int(mine["clean_correct"].sum()) - fallen < before
    assert main(["verify", str(cell), "--store", str(root / "results"), "--data", str(tmp_path)]) == 0
    pack_submission([cell], root / "results", tmp_path / "parcel", submitter=Submitter(name="A"))
    assert check(tmp_path / "parcel").accepted
    aside.rename(strong)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda ids, x: (ids, x * 0 + 0.5), "is outside the threat"),
        (lambda ids, x: (ids + 10_000_000, x), "is not in the cell's example list"),
        (lambda ids, x: (ids, x[:, :, :4]), "which is not that of the examples"),
        (lambda ids, x: (ids[[0, 0]], x[[0, 0]]), "expected one for each"),
        (lambda ids, x: (ids[:0], x[:0]), "expected one for each"),
        (lambda ids, x: (ids.int(), x), "expected ids (int64) and x_adv (float32)"),
        (lambda ids, x: (ids, x * torch.nan), "is outside the threat"),
    ],
)
def test_candidates_that_prove_nothing_are_refused(
    world: tuple[Path, Path, Path], tmp_path: Path, spoil: object, sentence: str
) -> None:
    root, weak, strong = world
    witness = Witness.load(strong / "witness.safetensors")
    ids, x_adv = spoil(witness.ids, witness.x_adv)  # type: ignore[operator]
    save_file({"ids": ids.contiguous(), "x_adv": x_adv.contiguous()}, str(tmp_path / "f.safetensors"))
    known = sorted((root / "results").rglob("*"))
    with pytest.raises(RecordError) as caught:
        record_given(weak, tmp_path / "f.safetensors", Store(root / "results"), tmp_path)
    assert sentence in str(caught.value)
    assert sorted((root / "results").rglob("*")) == known


def test_clean_inputs_break_nothing(world: tuple[Path, Path, Path], tmp_path: Path) -> None:
    root, weak, _ = world
    test = plugin("dataset", "digits").load(tmp_path, offline=True).test
    for count, named in ((1, "the candidate of example ID"), (3, "each candidate of the examples ID, ID, ID"),
                         (10, "each candidate of the examples " + ", ".join(["ID"] * 8) + " and 2 more")):  # fmt: skip
        right = Outcomes.load(weak / "outcomes.safetensors").clean_correct.nonzero().flatten()[:count]
        save_file({"ids": test.ids[right], "x_adv": test.x(right)}, str(tmp_path / "f.safetensors"))
        with pytest.raises(RecordError, match=f"{named.replace('ID', '[0-9]+')} breaks nothing; leave it out"):
            record_given(weak, tmp_path / "f.safetensors", Store(root / "results"), tmp_path)
    (tmp_path / "f.safetensors").write_bytes(b"\x80\x04junk")
    with pytest.raises(RecordError, match="cannot be read as safetensors"):
        record_given(weak, tmp_path / "f.safetensors", Store(root / "results"), tmp_path)
