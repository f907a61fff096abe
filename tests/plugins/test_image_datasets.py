"""Datasets of images from archives and folders."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.datasets import _cifar, _files, cifar10, cifar100, image_folder
from PIL import Image

from benchmark.data import DataSpec, Splits
from benchmark.errors import ConfigError, DataError
from tests.plugins.named_splits import disjoint, in_box, make, parts
from tests.plugins.test_datasets import write


def tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def load_small_cifar(name: str, folder: Path, rows: int, *, without: str = "") -> tuple[Splits, Any, Any]:
    """Write a small archive in the layout of a dataset and load it: splits, and the images and labels written."""
    plugin = {"cifar10": cifar10, "cifar100": cifar100}[name]
    layout, classes = plugin.LAYOUT, int(name.removeprefix("cifar"))
    draw = np.random.default_rng(1)
    x = draw.integers(0, 256, (rows * (len(layout.train) + 1), 3, 32, 32), dtype=np.uint8)
    y = draw.integers(0, classes, len(x), dtype=np.uint8)
    coarse = draw.integers(0, 20, len(x), dtype=np.uint8)
    records = [bytes([*([coarse[i]] if layout.label_bytes == 2 else []), y[i]]) + x[i].tobytes() for i in range(len(x))]
    members = {layout.names: "".join(f"class{k}\n" for k in range(classes)).encode() + b"\n"}
    for place, member in enumerate((*layout.train, layout.test)):
        members[member] = b"".join(records[place * rows : (place + 1) * rows])
    members.pop(without, None)
    content = tar(members)
    source = _files.Source(f"http://localhost/{name}.tar.gz", hashlib.sha256(content).hexdigest())
    write(folder / f"{name}.tar.gz", content)
    splits = _cifar.load_cifar(source, folder, layout, plugin.MEAN, plugin.STD, offline=True, select=2)
    return splits, x, y


@pytest.mark.parametrize(("name", "rows", "classes"), [("cifar10", 3, 10), ("cifar100", 7, 100)])
def test_binary_cifar_archives_are_read_into_three_splits(name: str, rows: int, classes: int, tmp_path: Path) -> None:
    splits, x, y = load_small_cifar(name, tmp_path, rows)
    train = len(x) - rows
    assert disjoint(splits)
    assert splits.spec.classes == classes
    assert splits.spec.class_names[3] == "class3"
    expected = (range(train - 2), range(train - 2, train), range(train, len(x)))
    for part, ids in zip(parts(splits), expected, strict=True):
        assert part.ids.tolist() == list(ids)
        assert part.y.tolist() == y[list(ids)].tolist()
        np.testing.assert_allclose(part.x().numpy(), x[list(ids)] / np.float32(255.0), atol=1e-7)
    assert [p.name for p in tmp_path.iterdir()] == [f"{name}.tar.gz"]


def test_an_archive_without_a_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not contain cifar-100-binary/test\.bin; expected the binary version"):
        load_small_cifar("cifar100", tmp_path, 3, without="cifar-100-binary/test.bin")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "cut.tar.gz", tar({"a": b"b" * 10000})[:-30])
    write(tmp_path / "text.tar.gz", b"not an archive")
    for name in ("cut", "text"):
        with pytest.raises(DataError, match=rf"{name}\.tar\.gz is not a readable tar\.gz archive"):
            _cifar.read_members(tmp_path / f"{name}.tar.gz", ("a",))


def test_half_a_record_is_refused() -> None:
    with pytest.raises(DataError, match=r"batch has 100 bytes; expected a multiple of 3073"):
        _cifar.read_records(b"x" * 100, 1, "batch")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_missing_archive_is_named_with_its_url_and_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"/{name} lacks (cifar-\S+-binary\.tar\.gz), .*offline.*https://\S+/\1"):
        make(name).load(tmp_path, offline=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A data folder whose `image_folder` has two classes: 30 training images each, 4 and 3 test images."""
    draw = np.random.default_rng(2)
    for split, counts in (("train", (30, 30)), ("val", (4, 3))):
        for label, count in zip(("ant", "bee"), counts, strict=True):
            for i in range(count):
                folder = tmp_path / "image_folder" / split / label
                folder.mkdir(parents=True, exist_ok=True)
                pixels = draw.integers(0, 256, (12, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.{'JPEG' if i else 'png'}")
    (tmp_path / "image_folder" / "train" / "ant" / "notes.txt").write_text("not an image")
    return tmp_path


def test_image_folders_are_read_into_three_splits(images: Path) -> None:
    splits = make("image_folder", size=8, resize=10).load(images, offline=True)
    assert [len(part) for part in parts(splits)] == [57, 3, 7]
    assert disjoint(splits)
    assert splits.spec == DataSpec((3, 8, 8), 2, splits.spec.mean, splits.spec.std, ("ant", "bee"))
    assert splits.test.y.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert torch.cat([splits.train.y, splits.select.y]).bincount().tolist() == [30, 30]
    assert splits.train.x(torch.tensor([0, 5])).shape == (2, 3, 8, 8)
    assert in_box(splits.test.x())


def test_an_image_of_the_wanted_size_keeps_its_pixels(images: Path) -> None:
    path = images / "image_folder" / "val" / "ant" / "0.png"
    pixels = np.asarray(Image.open(path))
    x = make("image_folder", size=6, resize=12).load(images, offline=True).test.x(torch.tensor([0]))[0]
    np.testing.assert_allclose(x.permute(1, 2, 0) * 255, pixels[3:9, 7:13], atol=1e-4)


def test_a_wide_image_is_resized_by_its_shorter_side_and_cut_in_the_middle(tmp_path: Path) -> None:
    half = np.zeros((40, 160, 3), np.uint8)
    half[:, 80:] = 255
    Image.fromarray(half).convert("L").save(tmp_path / "wide.png")
    x = image_folder.read_image(tmp_path / "wide.png", 20, 16)
    assert x.shape == (3, 16, 16)
    assert x[:, :, :7].max() == 0
    assert x[:, :, 9:].min() == 255
    Image.fromarray(half.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    tall = image_folder.read_image(tmp_path / "tall.png", 20, 16)
    assert torch.equal(tall, x.transpose(1, 2))


def test_images_are_read_only_when_they_are_asked_for(images: Path) -> None:
    broken = images / "image_folder" / "val" / "bee" / "1.JPEG"
    broken.write_bytes(b"no image")
    test = make("image_folder", size=8, resize=10).load(images, offline=True).test
    assert test.x(torch.arange(4)).shape == (4, 3, 8, 8)
    with pytest.raises(DataError, match=r"bee/1\.JPEG cannot be read as an image"):
        test.x()


def test_the_revision_of_a_folder_follows_its_listing(images: Path) -> None:
    dataset = make("image_folder")
    before = dataset.revision(images)
    assert before == dataset.revision(images)
    (images / "image_folder" / "val" / "bee" / "2.JPEG").unlink()
    assert before != dataset.revision(images)


def test_an_added_image_moves_hardly_any_other_between_splits(images: Path) -> None:
    root = images / "image_folder"
    paths = tuple(sorted(root.glob("train/*/*.*G")) + sorted(root.glob("train/*/*.png")))
    select = {paths[i] for i in image_folder._select_rows(paths, root)}
    backwards = paths[::-1]
    assert select == {backwards[i] for i in image_folder._select_rows(backwards, root)}
    fewer = paths[:-1]
    assert len(select & {fewer[i] for i in image_folder._select_rows(fewer, root)}) >= 2


def test_an_absolute_path_and_a_test_folder_serve_as_well(images: Path, tmp_path: Path) -> None:
    (images / "image_folder" / "val").rename(images / "image_folder" / "test")
    dataset = make("image_folder", path=str(images / "image_folder"), size=8, resize=8)
    assert len(dataset.load(tmp_path / "elsewhere", offline=True).test) == 7


def test_a_test_split_alone_is_enough_for_a_model_that_is_not_trained(images: Path) -> None:
    both = make("image_folder", size=8, resize=10).load(images, offline=True)
    shutil.rmtree(images / "image_folder" / "train")
    alone = make("image_folder", size=8, resize=10).load(images, offline=True)
    assert [len(part) for part in parts(alone)] == [0, 0, 7]
    assert alone.spec == both.spec
    assert torch.equal(alone.test.x(), both.test.x())
    assert torch.equal(alone.test.y, both.test.y)


def test_a_folder_of_another_layout_is_refused(images: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere has no images in val \(or test\)/CLASS/; expected the layout of"):
        make("image_folder", path="nowhere").revision(images)
    (images / "image_folder" / "val" / "bee").rename(images / "image_folder" / "val" / "wasp")
    with pytest.raises(DataError, match=r"val has classes that .*train lacks: wasp; expected the same names"):
        make("image_folder").load(images, offline=True)
    with pytest.raises(ConfigError, match=r"dataset\.size is 300 and dataset\.resize is 256"):
        make("image_folder", size=300)
