"""Fashion-MNIST as Debian distributes it: published content, another gzip header; real images of 28x28 pixels."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest
import torch
from benchmark_plugins.datasets import fashion_mnist
from benchmark_plugins.datasets.fashion_mnist import SOURCES, FashionMNIST

from benchmark.data import Splits
from benchmark.errors import ConfigError, DataError
from benchmark.oracles.linear import exact_distance
from benchmark.threat import Norm

INSTALLED = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a link to the installed files."""
    if not INSTALLED.is_dir():
        command = "apt-get install dataset-fashion-mnist, or set FASHION_MNIST to the folder with its files"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{INSTALLED} is missing: {command}")
        pytest.skip(f"{INSTALLED} is missing: {command}")
    folder = tmp_path_factory.mktemp("data")
    (folder / "fashion_mnist").symlink_to(INSTALLED)
    return folder


@pytest.fixture(scope="module")
def splits(root: Path) -> Splits:
    loaded: Splits = FashionMNIST().load(root, offline=True)
    return loaded


def test_the_packages_files_are_those_published(splits: Splits) -> None:
    assert [len(part) for part in (splits.train, splits.select, splits.test)] == [55_000, 5_000, 10_000]
    assert torch.bincount(splits.test.y).tolist() == [1_000] * 10
    assert splits.test.x(torch.arange(1)).shape == (1, 1, 28, 28)


def test_they_are_found_without_a_data_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", root / "fashion_mnist")
    assert len(FashionMNIST().load(tmp_path, offline=True).test) == 10_000
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"fashion_mnist lacks train-images-idx3-ubyte\.gz, .*this run is offline"):
        FashionMNIST().load(tmp_path, offline=True)


def test_nearest_class_mean_has_its_exact_robust_accuracies(splits: Splits) -> None:
    """Of the first 2,000 test rows, against linf .01, .02, .05 and .1; means of all 60,000 training rows."""
    total, count = torch.zeros(10, 784, dtype=torch.float64), torch.zeros(10, dtype=torch.float64)
    for part in (splits.train, splits.select):
        for rows in torch.arange(len(part)).split(20_000):
            total.index_add_(0, part.y[rows], part.x(rows).flatten(1).double())
        count += torch.bincount(part.y, minlength=10)
    means = total / count[:, None]
    x, y = splits.test.x(torch.arange(2_000)).flatten(1).double(), splits.test.y[:2_000]
    far = exact_distance(2.0 * means, -means.square().sum(1), x, y, Norm.linf)
    found = [float((far > eps).double().mean()) for eps in (0.0, 0.01, 0.02, 0.05, 0.1)]
    assert found == pytest.approx([0.6690, 0.6465, 0.6275, 0.5520, 0.4015], abs=1e-9)


def test_other_content_is_refused_whatever_its_header(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fashion_mnist"
    shutil.copytree(INSTALLED, folder)
    labels = folder / SOURCES[3].name
    content = bytearray(gzip.decompress(labels.read_bytes()))
    labels.write_bytes(gzip.compress(bytes(content), mtime=7))
    assert SOURCES[3].matches(labels)
    content[-1] ^= 1
    labels.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz has sha256 .*, expected 67da17c7"):
        FashionMNIST().load(tmp_path, offline=True)


def test_fewer_examples_are_the_first_of_each_split(root: Path, splits: Splits) -> None:
    few = FashionMNIST(train=12_000, select=1_000).load(root, offline=True)
    assert torch.equal(few.train.ids, splits.train.ids[:12_000])
    assert torch.equal(few.select.ids, splits.select.ids[:1_000])
    assert torch.equal(few.test.ids, splits.test.ids)


@pytest.mark.parametrize("sizes", [{"train": 0}, {"train": 55_001}, {"select": -1}, {"select": 5_001}])
def test_sizes_that_there_are_not_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.(train|select) is -?\d+; expected 1 to 5+000 examples"):
        FashionMNIST(**sizes)
