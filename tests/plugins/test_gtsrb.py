"""GTSRB from files in its published layout, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_plugins.datasets.gtsrb import GTSRB
from PIL import Image

from benchmark.errors import ConfigError, DataError

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"


def image(path: Path) -> None:
    """A black image of 20 x 24 pixels, with a white sign of 10 x 12 at (5, 6)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((24, 20, 3), np.uint8)
    values[6:18, 5:15] = 255
    Image.fromarray(values).save(path)


@pytest.fixture
def gtsrb(tmp_path: Path) -> Path:
    """Two classes with three tracks of two frames each, and three test images."""
    for label in range(2):
        folder = tmp_path / "GTSRB" / "Final_Training" / "Images" / f"{label:05d}"
        names = [f"{track:05d}_{frame:05d}.ppm" for track in range(3) for frame in range(2)]
        for name in names:
            image(folder / name)
        table = HEADER + "".join(f"{name};20;24;5;6;15;18;{label}\n" for name in names)
        (folder / f"GT-{label:05d}.csv").write_text(table)
    folder = tmp_path / "GTSRB" / "Final_Test" / "Images"
    for number in range(3):
        image(folder / f"{number:05d}.ppm")
    rows = "".join(f"{number:05d}.ppm;20;24;5;6;15;18;{number % 2}\n" for number in (2, 1, 0))
    (tmp_path / "GTSRB" / "GT-final_test.csv").write_text(HEADER + rows)
    return tmp_path


def test_the_published_layout_is_read_into_three_splits(gtsrb: Path) -> None:
    splits = GTSRB(size=8).load(gtsrb, offline=True)
    assert [len(part) for part in (splits.train, splits.select, splits.test)] == [10, 2, 3]
    assert splits.test.ids.tolist() == [12, 13, 14]
    assert splits.test.y.tolist() == [0, 1, 0]  # of the sorted names
    assert len(set(splits.select.y.tolist())) == 1
    assert int(splits.select.ids[1] - splits.select.ids[0]) == 1  # both frames of one track
    assert (splits.spec.shape, splits.spec.classes, splits.spec.class_names) == ((3, 8, 8), 2, ("00000", "00001"))


def test_the_sign_is_cut_out_by_its_box(gtsrb: Path) -> None:
    assert torch.equal(GTSRB(size=8).load(gtsrb, offline=True).test.x(), torch.ones(3, 3, 8, 8))
    whole = GTSRB(size=8, crop=False).load(gtsrb, offline=True).test.x()
    assert whole[:, :, 0].max() == 0
    assert whole[:, :, 3:5, 3:5].min() == 1


def test_test_images_alone_are_enough_for_a_model_that_is_not_trained(gtsrb: Path) -> None:
    (gtsrb / "GTSRB" / "Final_Training").rename(gtsrb / "elsewhere")
    before = GTSRB().revision(gtsrb)
    splits = GTSRB().load(gtsrb, offline=True)
    assert [len(splits.train), len(splits.select), len(splits.test)] == [0, 0, 3]
    (gtsrb / "GTSRB" / "GT-final_test.csv").rename(gtsrb / "GTSRB" / "Final_Test" / "Images" / "GT-final_test.csv")
    assert GTSRB().load(gtsrb, offline=True).test.y.tolist() == splits.test.y.tolist()
    assert GTSRB().revision(gtsrb) != before


def test_broken_files_are_refused_in_a_sentence(gtsrb: Path) -> None:
    table = gtsrb / "GTSRB" / "GT-final_test.csv"
    for rows, sentence in (
        (HEADER.replace(";ClassId", "") + "0.ppm;1;1;0;0;1;1\n", r"GT-final_test\.csv cannot be read \('ClassId'\)"),
        (HEADER + "00000.ppm;20;24;5;6;x;18;1\n", r"cannot be read \(invalid literal .*; expected GTSRB's layout"),
        (HEADER + "9.ppm;20;24;5;6;15;18;1\n", r"lists \S+9\.ppm, which is not there; unpack the archives"),
        (HEADER, r"lists no sign; unpack the archives"),
        (HEADER + "00000.ppm;20;24;5;6;15;18;-1\n", r"has a negative class"),
    ):
        table.write_text(rows)
        with pytest.raises(DataError, match=sentence):
            GTSRB().load(gtsrb, offline=True)
    table.write_text(HEADER + "00000.ppm;20;24;5;6;25;18;1\n")
    with pytest.raises(DataError, match=r"has 20x24 pixels, and its box in the CSV file is \(5, 6, 25, 18\)"):
        GTSRB().load(gtsrb, offline=True).test.x()
    table.unlink()
    with pytest.raises(DataError, match=r"GT-final_test\.csv cannot be read .*GTSRB_Final_Test_GT\.zip"):
        GTSRB().load(gtsrb, offline=True)
    with pytest.raises(ConfigError, match=r"dataset\.size is 0"):
        GTSRB(size=0)
