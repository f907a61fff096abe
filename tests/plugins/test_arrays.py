"""Arrays of the user's own: what a file must hold, and one sentence for each way in which it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from benchmark import registry
from benchmark.api import Dataset
from benchmark.config.schema import Training
from benchmark.data import Examples, Splits
from benchmark.errors import ConfigError, DataError
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.testing import rules_dataset
from benchmark.testing.rule import Inapplicable
from tests.core.cells import plugin, small_config

Arrays = dict[str, np.ndarray[Any, Any]]


def grey() -> Arrays:
    """60 training and 12 test images (1, 4, 5) of 3 classes, as bytes."""
    draw = np.random.default_rng(3)
    return {
        "x_train": draw.integers(0, 256, (60, 1, 4, 5), dtype=np.uint8),
        "y_train": np.arange(60) % 3,
        "x_test": draw.integers(0, 256, (12, 1, 4, 5), dtype=np.uint8),
        "y_test": np.arange(12) % 3,
    }


def dataset(path: Path, **params: Any) -> Dataset:
    cls: Any = registry.load("dataset", "arrays")
    made: Dataset = cls(path=str(path), **params)
    return made


def written(folder: Path, arrays: Arrays) -> Path:
    np.savez(folder / "data.npz", allow_pickle=True, **arrays)
    return folder / "data.npz"


def load(folder: Path, arrays: Arrays, **params: Any) -> Splits:
    return dataset(written(folder, arrays), **params).load(folder, offline=True)


def test_both_kinds_of_file_give_the_same_examples(tmp_path: Path) -> None:
    arrays = grey()
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, tmp_path / "data.safetensors")
    one = load(tmp_path, arrays)
    two = dataset(tmp_path / "data.safetensors").load(tmp_path, offline=True)
    assert one.spec == two.spec
    assert torch.equal(one.test.x(), two.test.x())
    np.testing.assert_array_equal(one.test.x() * 255, arrays["x_test"])
    assert one.test.y.tolist() == arrays["y_test"].tolist()


def test_without_a_select_split_every_twentieth_training_example_is_held_out(tmp_path: Path) -> None:
    splits = load(tmp_path, grey())
    assert splits.select.ids.tolist() == [19, 39, 59]
    assert sorted([*splits.train.ids.tolist(), 19, 39, 59]) == list(range(60))
    assert splits.test.ids.tolist() == list(range(60, 72))
    own = {**grey(), "x_select": grey()["x_test"][:5], "y_select": grey()["y_test"][:5]}
    splits = load(tmp_path, own)
    assert [len(splits.train), len(splits.select), len(splits.test)] == [60, 5, 12]
    assert splits.test.ids.tolist() == list(range(65, 77))


def test_the_statistics_are_those_of_the_training_examples(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    table: Arrays = {
        "x_train": draw.random((50, 3), dtype=np.float32) * [1.0, 0.5, 0.0],
        "y_train": np.arange(50) % 2,
        "x_test": np.ones((4, 3), dtype=np.float32),
        "y_test": np.zeros(4, dtype=np.int64),
    }
    splits = load(tmp_path, table, classes=5)
    seen = table["x_train"][splits.train.ids.numpy()]
    np.testing.assert_allclose(splits.spec.mean, seen.mean(0), atol=1e-6)
    np.testing.assert_allclose(splits.spec.std, [*seen.std(0)[:2], 1.0], atol=1e-6)  # the third is constant
    assert (splits.spec.shape, splits.spec.classes) == ((3,), 5)
    colour = {**grey(), "x_train": np.zeros((60, 3, 4, 5), np.uint8), "x_test": np.zeros((12, 3, 4, 5), np.uint8)}
    assert load(tmp_path, colour).spec.mean == (0.0, 0.0, 0.0)


def test_the_promises_of_a_dataset_hold_for_a_file(tmp_path: Path) -> None:
    made = dataset(written(tmp_path, grey()))
    broken = {}
    for rule in rules_dataset.RULES:
        try:
            rule(made)
        except (AssertionError, Inapplicable) as error:
            broken[rule.name] = str(error)
    assert broken == {}


def test_the_revision_is_that_of_the_content(tmp_path: Path) -> None:
    path = written(tmp_path, grey())
    before = dataset(path).revision(tmp_path)
    assert dataset(path).files(tmp_path) == (path,)
    written(tmp_path, {**grey(), "y_test": np.zeros(12, dtype=np.int64)})
    assert dataset(path).revision(tmp_path) != before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x_test": None}, r"has no x_test, but x_train \(60, 1, 4, 5\), .*; expected x_train, y_train, x_test"),
        ({"x_train": np.zeros((60, 4, 5))}, r"grey images need a channel: x\[:, None\] is \(60, 1, 4, 5\)"),
        ({"x_train": np.zeros((60, 8, 8, 3))}, r"channels last; expected \(N, C, H, W\): x.transpose\(0, 3, 1, 2\)"),
        ({"x_test": np.zeros((12, 3, 4, 5))}, r"have the shapes \[\(1, 4, 5\), \(3, 4, 5\)\]; expected one shape"),
        ({"x_test": grey()["x_test"] * 1.0}, "has values from .* to 25[0-9]; expected floats in"),
        ({"x_test": np.full((12, 1, 4, 5), np.nan)}, "has values from nan to nan"),
        ({"x_test": np.full((12, 1, 4, 5), 1.000001)}, "has values from 1.000001 to 1.000001; expected floats in"),
        ({"x_train": grey()["x_train"] // 255, "x_test": grey()["x_test"] // 255}, "are bytes of 0 and 1 only, but"),
        ({"x_test": np.zeros((0, 1, 4, 5), np.uint8)}, "x_test of .* has no examples; expected at least one"),
        ({"x_train": np.zeros((60, 2, 32))}, r"signals a width: x\[..., None\] is \(60, 2, 32, 1\)"),
        (
            {"y_train": np.arange(60) % 3 + 1, "y_test": np.arange(12) % 3 + 1},
            "the labels of .* go from 1 to 3; expected labels from 0: subtract 1, or .*set dataset.classes=4",
        ),
        ({"x_test": np.zeros((12, 1, 4, 5), np.int32)}, "has int32; expected floats in"),
        ({"y_test": np.zeros(11, np.int64)}, r"y_test of .* has the shape \(11,\); expected \(12,\), one label for"),
        ({"y_test": np.zeros(12)}, "has float64 from 0.0; expected whole numbers from 0"),
        ({"y_test": np.full(12, -1)}, "has int64 from -1; expected whole numbers from 0"),
        ({"y_test": np.zeros(12, dtype=np.complex64)}, "has complex64; expected whole numbers from 0"),
        ({"y_test": np.array([None] * 12)}, "cannot be read .Object arrays cannot be loaded.*; expected numbers"),
    ],
)
def test_what_a_file_must_not_hold(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    arrays = {name: value for name, value in {**grey(), **change}.items() if value is not None}
    with pytest.raises(DataError, match=told):
        load(tmp_path, arrays)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", "bool", ">i4"])
def test_labels_are_whole_numbers_of_any_type(kind: str, tmp_path: Path) -> None:
    arrays = {**grey(), "y_train": (np.arange(60) % 2).astype(kind), "y_test": (np.arange(12) % 2).astype(kind)}
    splits = load(tmp_path, arrays)
    assert splits.test.y.dtype == torch.int64
    assert splits.test.y.tolist() == [0, 1] * 6


def test_labels_from_one_are_read_where_the_classes_are_given(tmp_path: Path) -> None:
    assert load(tmp_path, {**grey(), "y_train": np.arange(60) % 2 + 1}, classes=4).spec.classes == 4


def test_the_order_of_bytes_and_of_rows_in_the_file_does_not_matter(tmp_path: Path) -> None:
    arrays = {name: a / 255 if name[0] == "x" else a for name, a in grey().items()}
    plain = load(tmp_path, arrays)
    for change in (np.asfortranarray, lambda a: a.astype(a.dtype.newbyteorder(">"))):
        other = load(tmp_path, {name: change(a) for name, a in arrays.items()})
        assert torch.equal(other.train.x(), plain.train.x())
        assert other.train.x().is_contiguous()
    turned = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)).permute(2, 0, 1)
    read = Examples.of(torch.arange(5), turned, torch.zeros(5, dtype=torch.int64)).x()
    assert read.is_contiguous()  # a model may call view on it
    assert torch.equal(read, turned)


def test_values_that_single_precision_holds_are_in_range(tmp_path: Path) -> None:
    assert float(load(tmp_path, {**grey(), "x_test": np.full((12, 1, 4, 5), 1 + 1e-9)}).test.x().max()) == 1.0


def test_a_signal_or_a_small_image_is_no_image_with_channels_last(tmp_path: Path) -> None:
    for shape in ((2, 16, 1), (8, 32, 1), (5, 4, 4), (16, 3, 3)):
        signals = {**grey(), "x_train": np.zeros((60, *shape)), "x_test": np.zeros((12, *shape))}
        assert load(tmp_path, signals).spec.shape == shape
    with pytest.raises(DataError, match="channels last"):
        load(tmp_path, {**grey(), "x_train": np.zeros((60, 28, 28, 1))})


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.path is '.*none.npz', which is not a file in .*; expected a .npz or"):
        dataset(tmp_path / "none.npz").load(tmp_path, offline=True)
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.safetensors").write_text("no archive")
    for name in ("text.npz", "text.safetensors"):
        with pytest.raises(DataError, match="cannot be read"):
            dataset(tmp_path / name).load(tmp_path, offline=True)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="has a single array; expected an archive"):
        dataset(tmp_path / "one.npy").load(tmp_path, offline=True)
    with pytest.raises(ConfigError, match=r"dataset\.classes is 1; expected at least 2, or 0"):
        dataset(tmp_path / "x.npz", classes=1)


NET_1D = """
import torch


class Net(torch.nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 4, 9, padding=4)
        self.head = torch.nn.Linear(4, spec.classes)

    def forward(self, x):  # (B, 1, L, 1): a signal is an image of one column
        return self.head(self.conv(x[..., 0]).relu().mean(2))
"""


def test_a_signal_is_trained_on_attacked_and_proved_like_anything_else(tmp_path: Path) -> None:
    """Two tones of other frequencies in noise, one channel of 128 samples: no part of the core knows of signals."""
    time = torch.arange(128) / 128
    rng = torch.Generator().manual_seed(0)

    def tones(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.arange(count) % 2
        phase = torch.rand(count, 1, generator=rng)
        x = 0.5 + 0.3 * (2 * torch.pi * ((4 + 12 * y[:, None]) * time + phase)).sin()
        return (x + 0.02 * torch.randn(x.shape, generator=rng)).clamp(0, 1)[:, None, :, None], y

    (x_train, y_train), (x_test, y_test) = tones(400), tones(40)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    save_file({name: values.numpy() for name, values in arrays.items()}, tmp_path / "d.safetensors")
    (tmp_path / "net.py").write_text(NET_1D)
    config = small_config(
        tmp_path, examples=40, dataset=plugin("dataset", "arrays", path=str(tmp_path / "d.safetensors")),
        model=plugin("model", "file", path=str(tmp_path / "net.py"), factory="Net"),
        attack=plugin("attack", "pgd", steps=5),
        training=Training(epochs=15, learning_rate=0.05, selection_attack=plugin("attack", "pgd", steps=1)),
    )  # fmt: skip
    result = run(config)
    record = Store(tmp_path / "results").record(result.key)
    assert record is not None
    assert record.status == "complete", record.error
    assert record.counts is not None
    assert record.counts.clean_correct >= 38
    assert record.counts.invalid == 0
