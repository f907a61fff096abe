"""Every dataset: its format read from small files, its splits, its constants, and what it says when a file is wrong."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.datasets import _files, _idx, fashion_mnist, mnist

from benchmark.errors import ConfigError, DataError
from tests.plugins.named_splits import disjoint, in_box, make, nearest_mean_hits, parts

NAMES = ("breast_cancer", "cifar10", "cifar100", "digits", "fashion_mnist", "image_folder", "mnist", "synthetic")


@pytest.fixture(autouse=True)
def _nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")


# --- embedded sets ---------------------------------------------------------------------------------------------------


def test_digits_are_the_fixed_rows_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    splits = make("digits").load(tmp_path, offline=True)
    rows = (range(1097), range(1097, 1297), range(1297, 1797))
    for part, expected in zip(parts(splits), rows, strict=True):
        assert part.ids.tolist() == list(expected)
        assert part.y.tolist() == bunch.target[list(expected)].tolist()
        np.testing.assert_array_equal(part.x().numpy() * 16, bunch.images[list(expected)][:, None])
    assert splits.spec.shape == (1, 8, 8)
    assert list(tmp_path.iterdir()) == []


def test_digits_give_the_known_accuracy_of_the_nearest_class_mean(tmp_path: Path) -> None:
    splits = make("digits").load(tmp_path, offline=True)
    assert nearest_mean_hits([splits.train, splits.select], splits.test) == 435


def test_breast_cancer_gives_the_known_accuracy_of_the_nearest_class_mean(tmp_path: Path) -> None:
    splits = make("breast_cancer").load(tmp_path, offline=True)
    assert [len(part) for part in parts(splits)] == [214, 71, 284]
    assert nearest_mean_hits([splits.train], splits.test) == 266


def test_breast_cancer_is_scaled_by_train_rows_alone_and_clipped(tmp_path: Path) -> None:
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import MinMaxScaler

    bunch = load_breast_cancer()
    splits = make("breast_cancer").load(tmp_path, offline=True)
    scaler = MinMaxScaler(clip=True).fit(bunch.data[splits.train.ids.numpy()])
    for part in parts(splits):
        rows = part.ids.numpy()
        np.testing.assert_allclose(part.x().numpy(), scaler.transform(bunch.data[rows]), atol=1e-6)
        assert part.y.tolist() == bunch.target[rows].tolist()
    x = splits.train.x()
    assert x.amin(0).tolist() == [0.0] * 30
    assert x.amax(0).tolist() == [1.0] * 30
    assert splits.test.ids.tolist() == list(range(1, 569, 2))


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_pinned_mean_and_deviation_are_those_of_the_train_split(name: str, tmp_path: Path) -> None:
    splits = make(name).load(tmp_path, offline=True)
    x = splits.train.x().double()
    axes = (0, 2, 3) if splits.spec.image else (0,)
    np.testing.assert_allclose(splits.spec.mean, x.mean(axes), atol=5.1e-5)
    np.testing.assert_allclose(splits.spec.std, x.std(axes, correction=0), atol=5.1e-5)


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "synthetic"])
def test_splits_are_disjoint_repeatable_and_in_the_box(name: str, tmp_path: Path) -> None:
    first, second = make(name).load(tmp_path, offline=True), make(name).load(tmp_path, offline=True)
    assert disjoint(first)
    for one, other in zip(parts(first), parts(second), strict=True):
        assert one.digest() == other.digest()
        assert torch.equal(one.x(), other.x())
        assert in_box(one.x())
        assert set(one.y.tolist()) == set(range(first.spec.classes))


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_another_content_of_the_embedded_set_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = np.loadtxt

    def changed(*arguments: object, **settings: object) -> object:
        table = read(*arguments, **settings)  # type: ignore[call-overload]
        table[0, -1] = 1 - table[0, -1]
        return table

    monkeypatch.setattr("numpy.loadtxt", changed)
    with pytest.raises(DataError, match=r"sha256 [0-9a-f]{64}, expected [0-9a-f]{64}; reinstall scikit-learn"):
        make(name).load(tmp_path, offline=True)


def test_an_embedded_set_is_read_without_the_library_it_comes_with(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from benchmark import registry\n"
        "for name in ('digits', 'breast_cancer'):\n"
        "    registry.load('dataset', name)().load(pathlib.Path(sys.argv[1]), offline=True)\n"
        "print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_revisions_are_pinned_and_need_no_file(name: str, tmp_path: Path) -> None:
    assert make(name).revision(tmp_path) == make(name).revision(tmp_path / "elsewhere") != ""
    assert list(tmp_path.iterdir()) == []


def test_no_two_datasets_share_a_revision(tmp_path: Path) -> None:
    pinned = [make(name).revision(tmp_path) for name in NAMES if name != "image_folder"]
    assert len(set(pinned)) == len(pinned)


# --- synthetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "classes"), [((1, 8, 8), 10), ((3, 5, 7), 3), ((20,), 2)])
def test_synthetic_takes_any_shape_and_is_learnable(shape: tuple[int, ...], classes: int, tmp_path: Path) -> None:
    splits = make("synthetic", shape=shape, classes=classes, train=60, select=30, test=300).load(tmp_path, offline=True)
    assert [len(part) for part in parts(splits)] == [60, 30, 300]
    assert splits.test.x().shape == (300, *shape)
    assert nearest_mean_hits([splits.train], splits.test) >= 297


def test_synthetic_is_its_template_plus_noise_of_the_given_deviation(tmp_path: Path) -> None:
    dataset: Any = make("synthetic", noise=0.05, test=2000)
    test = dataset.load(tmp_path, offline=True).test
    noise = (test.x() - dataset.templates()[test.y]).double()
    assert float(noise.std()) == pytest.approx(0.05, rel=0.01)  # the box is 5 deviations away
    assert abs(float(noise.mean())) < 5 * 0.05 / noise.numel() ** 0.5
    spec = dataset.load(tmp_path, offline=True).spec
    many: Any = make("synthetic", shape=(3, 32, 32), noise=0.05)
    assert float(many.load(tmp_path, offline=True).train.x().std()) == pytest.approx(spec.std[0], rel=0.02)


def test_synthetic_values_depend_on_the_example_alone(tmp_path: Path) -> None:
    small = make("synthetic", train=50).load(tmp_path, offline=True)
    large = make("synthetic", train=10**6).load(tmp_path, offline=True)
    rows = torch.tensor([7, 3, 49])
    assert torch.equal(small.train.x()[rows], large.train.x(rows))
    assert torch.equal(large.train.x(torch.tensor([7])), large.train.x(rows)[:1])
    assert not torch.equal(small.train.x(), make("synthetic", seed=1).load(tmp_path, offline=True).train.x()[:50])


def test_synthetic_draws_from_no_global_generator(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    make("synthetic").load(tmp_path, offline=True).train.x()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"shape": (8, 8)}, r"dataset\.shape is \[8, 8\]; expected \[C, H, W\]"),
        ({"classes": 1}, "1 classes .* expected at least 2 classes"),
        ({"noise": -0.1}, r"dataset\.noise is -0\.1; expected"),
    ],
)
def test_synthetic_refuses_wrong_values(params: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make("synthetic", **params)


def test_synthetic_shape_from_a_configuration_is_a_tuple() -> None:
    assert make("synthetic", shape=[1, 8, 8]) == make("synthetic")
    assert hash(make("synthetic", shape=[1, 8, 8])) == hash(make("synthetic"))


# --- IDX files -------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """The gzipped IDX file of an array of bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.tobytes(), mtime=0)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def sources(folder: Path, base: str) -> tuple[_files.Source, ...]:
    """The sources of a folder's files as published below the URL `base`."""
    names = _idx.FILES
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    return tuple(_files.Source(f"{base}/{name}", sha) for name, sha in zip(names, digests, strict=True))


@pytest.fixture
def small_mnist(tmp_path: Path) -> tuple[Path, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A folder with 12 training and 5 test images, and the arrays of all 17."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (17, 28, 28), dtype=np.uint8)
    y = draw.integers(0, 10, 17, dtype=np.uint8)
    folder = tmp_path / "published"
    contents = (x[:12], y[:12], x[12:], y[12:])
    for name, array in zip(_idx.FILES, contents, strict=True):
        write(folder / name, idx(array))
    return folder, x, y


def test_idx_files_are_read_into_three_splits(small_mnist: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, x, y = small_mnist
    published = sources(folder, "http://localhost")
    monkeypatch.setattr(_idx, "SELECT", 4)
    splits = _idx.load_idx(published, folder, mnist.SPEC, offline=True)
    assert disjoint(splits)
    for part, rows in zip(parts(splits), (range(8), range(8, 12), range(12, 17)), strict=True):
        assert part.ids.tolist() == list(rows)
        assert part.y.tolist() == y[list(rows)].tolist()
        np.testing.assert_allclose(part.x().numpy(), x[list(rows)][:, None] / np.float32(255.0), atol=1e-7)
        assert in_box(part.x())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"no gzip", "is not a gzip file"),
        (gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x00", mtime=0), "begins with '00000d01'; expected an IDX file"),
        (gzip.compress(b"\x00\x00\x08\x03\x00\x00", mtime=0), "expected an IDX file of unsigned bytes"),
        (gzip.compress(b"", mtime=0), "expected an IDX file"),
        (idx(np.zeros((2, 3), np.uint8))[:-12], "is not a gzip file"),
        (
            gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05abc", mtime=0),
            r"has 3 values; expected 5 for its shape \[5\]",
        ),
    ],
)
def test_a_file_that_is_no_idx_file_is_named(content: bytes, text: str, tmp_path: Path) -> None:
    write(tmp_path / "x.gz", content)
    with pytest.raises(DataError, match=rf"x\.gz .*{text}|x\.gz {text}"):
        _idx.read_idx(tmp_path / "x.gz")


def test_images_and_labels_must_go_together(small_mnist: Any) -> None:
    folder, _, y = small_mnist
    write(folder / "t10k-labels-idx1-ubyte.gz", idx(y[:4]))
    published = sources(folder, "http://localhost")
    with pytest.raises(DataError, match=r"shape \[5, 28, 28\] and t10k-labels.* one of \[4\]; expected N images"):
        _idx.load_idx(published, folder, mnist.SPEC, offline=True, select=4)


@pytest.mark.parametrize(("name", "published"), [("mnist", mnist.SOURCES), ("fashion_mnist", fashion_mnist.SOURCES)])
def test_a_missing_file_is_named_with_its_url_and_folder(
    name: str, published: tuple[_files.Source, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        make(name).load(tmp_path, offline=True)
    text = str(caught.value)
    assert str(tmp_path / name) in text
    assert "offline" in text
    for source in published:
        assert source.url.startswith("https://")
        assert source.url.replace(source.name, "NAME") in text
        assert source.name in text


def test_the_url_of_a_single_missing_file_is_complete(small_mnist: Any) -> None:
    folder, _, _ = small_mnist
    published = sources(folder, "https://example.org/data")
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    expected = (
        rf"^{folder} lacks train-labels-idx1-ubyte\.gz, and this run is offline; download from "
        r"https://example\.org/data/train-labels-idx1-ubyte\.gz into that folder, or run once with store\.offline"
    )
    with pytest.raises(DataError, match=expected):
        _files.fetch(published, folder, offline=True)


def test_a_file_with_another_content_is_refused_by_its_checksum(small_mnist: Any, tmp_path: Path) -> None:
    folder, _, _ = small_mnist
    root = tmp_path / "data"
    root.mkdir()
    folder.rename(root / "mnist")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz has sha256 [0-9a-f]{64}, expected 440fcabf"):
        make("mnist").load(root, offline=True)
    assert (root / "mnist" / "train-images-idx3-ubyte.gz").is_file()


# --- downloads -------------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture
def server(small_mnist: Any) -> Iterator[str]:
    """The address of a local server of the published folder."""
    folder, _, _ = small_mnist
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_missing_files_are_downloaded_and_kept(small_mnist: Any, server: str, tmp_path: Path) -> None:
    folder, _, _ = small_mnist
    published, own = sources(folder, server), tmp_path / "own"
    first = _idx.load_idx(published, own, mnist.SPEC, offline=False, select=4)
    assert sorted(p.name for p in own.iterdir()) == sorted(_idx.FILES)
    again = _idx.load_idx(published, own, mnist.SPEC, offline=True, select=4)
    assert first.test.digest() == again.test.digest()


def test_a_download_with_another_content_leaves_nothing_behind(small_mnist: Any, server: str, tmp_path: Path) -> None:
    source = _files.Source(f"{server}/t10k-labels-idx1-ubyte.gz", "0" * 64)
    with pytest.raises(DataError, match=rf"{server}.* sent a file with sha256 [0-9a-f]{{64}}, expected 0000"):
        _files.fetch((source,), tmp_path / "own", offline=False)
    assert list((tmp_path / "own").iterdir()) == []


def test_a_download_that_fails_says_where_to_get_the_file(server: str, tmp_path: Path) -> None:
    source = _files.Source(f"{server}/absent.gz", "0" * 64)
    with pytest.raises(DataError, match=r"own lacks absent\.gz, and its download failed \(HTTP Error 404.*from http"):
        _files.fetch((source,), tmp_path / "own", offline=False)
    assert list((tmp_path / "own").iterdir()) == []
