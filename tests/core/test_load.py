"""Loaded data: one class, and test inputs that are training inputs too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.config.schema import StoreConfig
from benchmark.errors import DataError
from benchmark.stages import load
from benchmark.stages.load import Loaded, leakage, load_data
from tests.core.cells import plugin

X = np.random.default_rng(0).random((100, 1, 8, 8), dtype=np.float32)


def loaded(folder: Path, x_test: object, y: object = None) -> Loaded:
    labels = np.arange(100) % 2 if y is None else y
    np.savez(folder / "data.npz", x_train=X, y_train=labels, x_test=x_test, y_test=np.arange(len(x_test)) % 2)  # type: ignore[arg-type]
    return load_data(plugin("dataset", "arrays", path=str(folder / "data.npz")), StoreConfig())


def test_test_inputs_that_are_training_inputs_are_counted_whatever_their_ids(tmp_path: Path) -> None:
    found = loaded(tmp_path, X[:30])  # 29 of them are in the training split, and one is held out for select
    assert (found.disjoint, found.shared) == (False, 30)
    (finding,) = leakage(found)
    assert (finding.name, finding.severity) == ("test_in_training", "error")
    assert finding.evidence.startswith("30 of 30 test inputs are also inputs of the training or the select split")


def test_one_in_many_may_be_chance(tmp_path: Path) -> None:
    new = np.random.default_rng(1).random((200, 1, 8, 8), dtype=np.float32)
    new[7] = X[5]
    found = loaded(tmp_path, new)
    assert (found.disjoint, found.shared, leakage(found)[0].severity) == (False, 1, "warning")


def test_inputs_that_differ_in_one_value_are_others(tmp_path: Path) -> None:
    near = X[:30].copy()
    near[:, 0, 3, 5] = np.nextafter(near[:, 0, 3, 5], np.float32(2), dtype=np.float32)
    found = loaded(tmp_path, np.minimum(near, 1))
    assert (found.disjoint, found.shared, leakage(found)) == (True, 0, [])


def test_wide_inputs_are_compared_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "COMPARED_VALUES", 2)  # the corners alone, which all of these share
    x = X.copy()
    x[:, 0, 0, 0] = x[:, 0, 7, 7] = 0.5
    np.savez(tmp_path / "d.npz", x_train=x[:50], y_train=np.arange(50) % 2, x_test=x[40:], y_test=np.arange(60) % 2)
    assert load_data(plugin("dataset", "arrays", path=str(tmp_path / "d.npz")), StoreConfig()).shared == 10


def test_more_than_can_be_compared_is_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "COMPARED_BYTES", 1000)
    found = loaded(tmp_path, X[:30])
    assert (found.disjoint, leakage(found)) == (None, [])


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"dataset.arrays has training examples of only one class; expected at least two"
    ):
        loaded(tmp_path, X[:30], np.zeros(100, dtype=np.int64))
