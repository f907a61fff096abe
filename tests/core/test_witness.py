"""Witnesses in bytes under 256 values per feature: a quarter of the size, and every reader sees the same inputs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_leaderboard.review.check import check
from benchmark_leaderboard.review.parcel import Submitter
from benchmark_leaderboard.review.submission import pack_submission
from safetensors import safe_open

from benchmark.cli import main
from benchmark.commands.add_examples import record_given
from benchmark.errors import RecordError
from benchmark.interface.result import Cell
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.records.witness import Witness
from benchmark.run import run
from benchmark.stages.replay import check_distances
from benchmark.threat.grid import of_bytes, to_bytes
from tests.core.cells import plugin, small_config


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(root, folder of a complete cell under 256 values on images of bytes)."""
    root = tmp_path_factory.mktemp("bytes")
    draw = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (draw.integers(0, 120, (120, 1, 6, 6)) + 60 * (np.arange(6) % 3 == y[:, None])[:, None, None]).astype(np.uint8)
    np.savez(root / "bytes.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    return root, attacked(root, 256)


def attacked(root: Path, levels: int | None) -> Path:
    config = small_config(root, dataset=plugin("dataset", "arrays", path=str(root / "bytes.npz")), batch_size=16)
    cell = Store(root / "results").cell(run(config.under(dataclasses.replace(config.threat, levels=levels))).key)
    assert len(Witness.load(cell / "witness.safetensors").ids) > 16  # of more than one batch
    return cell


def kind(cell: Path) -> str:
    with safe_open(str(cell / "witness.safetensors"), "pt") as file:
        return str(file.get_slice("x_adv").get_dtype())


def test_every_byte_comes_back_and_other_values_are_not_packed() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    packed = to_bytes(of_bytes(every))
    assert packed is not None
    assert torch.equal(packed, every)
    for value in (1 / 16, 0.1, -1 / 255, 256 / 255, float("nan"), np.nextafter(np.float32(7 / 255), np.float32(1))):
        assert to_bytes(torch.tensor([0.0, float(value)])) is None
    assert to_bytes(torch.zeros(0, 1, 2, 2)) is not None


def test_a_cell_on_bytes_is_stored_in_bytes_and_proved(world: tuple[Path, Path]) -> None:
    root, cell = world
    assert kind(cell) == "U8"
    assert kind(attacked(root, None)) == "F32"
    words = ["--store", str(root / "results"), "--data", str(root / "data")]
    assert main(["verify", str(cell), *words, "--again", "4"]) == 0
    assert main(["reproduce", str(cell), *words]) == 0
    pack_submission([cell], root / "results", root / "parcel", submitter=Submitter(name="A"))
    assert check(root / "parcel").accepted
    ids, x_adv = Cell(read_record(cell), cell).witness()
    assert x_adv.dtype == np.float32
    assert len(ids) == len(x_adv)


def test_bytes_are_taken_as_given_examples(world: tuple[Path, Path], tmp_path: Path) -> None:
    root, cell = world
    ids = Witness.load(cell / "witness.safetensors").ids
    shutil.copy(cell / "witness.safetensors", tmp_path / "mine.safetensors")
    record = record_given(cell, tmp_path / "mine.safetensors", Store(root / "results"), root / "data")
    made = Store(root / "results").cell(record.key)
    assert torch.equal(Witness.load(made / "witness.safetensors").ids.sort().values, ids.sort().values)
    assert kind(made) == "U8"


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6])
def test_a_distance_of_any_size_is_checked(world: tuple[Path, Path], size: float) -> None:
    """Waveforms and tables have radii of a thousandth: a tolerance for images let distances pass that were halved."""
    said = Outcomes.load(world[1] / "outcomes.safetensors")
    rows = torch.arange(3)
    found = {"linf": torch.tensor([0.5, 1.0, 100.0]) * size}

    def told(values: list[float]) -> Outcomes:
        return dataclasses.replace(said, linf=said.linf.index_copy(0, rows, torch.tensor(values) * size))

    check_distances(found, told([0.5, 1.0, 100.0001]), rows)
    for wrong in ([0.5, 1.001, 100.0], [0.25, 1.0, 100.0], [float("nan"), 1.0, 100.0]):
        with pytest.raises(RecordError, match="the linf distances of the witness are not those"):
            check_distances(found, told(wrong), rows)
