"""Instances files of MS-COCO and their images. Lin et al., ECCV 2014, arXiv:1405.0312; https://cocodataset.org.

`annotations/instances_NAME.json` beside a folder `NAME` of images. Images keep their proportions: the longer side is
resized to `size` pixels (bilinear, antialiased), and grey fills the rest of the square, in equal parts on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field, PositiveInt, ValidationError
from torch import Tensor

from benchmark.api import ConfigError, DataError, Dataset, DataSpec, Examples, Splits, Task, derive_seed
from benchmark.records.content import content_sha256

from ._images import pixels, rgb
from .image_folder import MEAN, SELECT_PART, STD

__all__ = ["Annotation", "InstancesFolder", "Letterbox", "Marked", "instances_file"]

GREY = 128
"""Value around an image, of 255."""

Number = Annotated[float, Field(allow_inf_nan=False)]


class _Category(BaseModel):
    id: int
    name: str


class _Image(BaseModel):
    id: int
    file_name: str
    width: PositiveInt
    height: PositiveInt


class Runs(BaseModel):
    """Run lengths of background and object in turn, down the columns; `size`: height, width."""

    counts: list[int] | str
    size: tuple[int, int]


class Annotation(BaseModel):
    """One object, or a crowd of one category: box [x, y, width, height] and outline, in pixels of the original."""

    image_id: int
    category_id: int
    bbox: tuple[Number, Number, Annotated[Number, Field(ge=0)], Annotated[Number, Field(ge=0)]]
    iscrowd: Literal[0, 1] = 0
    segmentation: list[Annotated[list[Number], Field(min_length=4)]] | Runs = []


class _Instances(BaseModel):
    images: Annotated[list[_Image], Field(min_length=1)]
    annotations: list[Annotation]
    categories: Annotated[list[_Category], Field(min_length=1)]


@dataclass(frozen=True)
class Letterbox:
    """Place of an image of width x height pixels in a square of `size` pixels."""

    width: int
    height: int
    size: int

    @property
    def scale(self) -> float:
        """Pixels of the square per pixel of the original."""
        return self.size / max(self.width, self.height)

    @property
    def placed(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the image in the square."""
        width, height = (max(1, round(side * self.scale)) for side in (self.width, self.height))
        return (self.size - width) // 2, (self.size - height) // 2, width, height

    def points(self, xy: Sequence[float]) -> list[float]:
        """Points x, y, x, y, ... of the original in the square."""
        left, top, width, height = self.placed
        across, down = width / self.width, height / self.height
        return [top + v * down if at % 2 else left + v * across for at, v in enumerate(xy)]


@dataclass(frozen=True)
class Marked:
    """An image and its annotations; `label` has the class of each category, from 1."""

    path: Path
    id: int
    box: Letterbox
    annotations: tuple[Annotation, ...]
    label: dict[int, int]


@dataclass(frozen=True)
class _Disk:
    """Reader of image files."""

    marked: tuple[Marked, ...]
    size: int

    def __call__(self, positions: Tensor) -> Tensor:
        images = [_read(self.marked[i]) for i in positions.tolist()]
        return torch.stack(images).float() / 255.0 if images else torch.empty(0, 3, self.size, self.size)


def _read(one: Marked) -> Tensor:
    """The square, (3, size, size) uint8."""
    from PIL import Image

    image, box = rgb(one.path), one.box
    if image.size != (box.width, box.height):
        raise DataError(
            f"{one.path} has {image.width}x{image.height} pixels, and its instances file says "
            f"{box.width}x{box.height}; expected the image that was annotated: download it again"
        )
    left, top, width, height = box.placed
    square = Image.new("RGB", (box.size, box.size), (GREY, GREY, GREY))
    square.paste(image.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    return pixels(square)


@dataclass(frozen=True)
class InstancesFolder(Dataset):
    """Images and their annotations in MS-COCO's published layout.

    path: the folder with `annotations`; relative to the data folder. train, test: names of the folders of images.
    size: side of the square. images: at most as many of each, those with the smallest hashes of their ids.
    """

    path: str = "coco"
    train: str = "train2017"
    test: str = "val2017"
    size: int = 128
    images: int = 2000

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 1024 or self.size % 4:
            raise ConfigError(f"dataset.size is {self.size}; expected a multiple of 4 from 8 to 1024 pixels")
        if self.images < 1:
            raise ConfigError(f"dataset.images is {self.images}; expected at least 1 image per split")

    def revision(self, root: Path) -> str:
        """Hash of the names and bytes of all files in the folder, independent of its location."""
        return content_sha256(root / self.path)

    def files(self, root: Path) -> tuple[Path, ...]:
        """The folder."""
        return (root / self.path,)

    def splits(self, root: Path, task: Callable[[int], Task], labels: Callable[[Marked], Tensor]) -> Splits:
        """Splits of at most `images` images with an object each, those with the smallest hashes; ids are COCO's.

        task: of a number of categories. labels: of an image, one tensor of fixed shape.
        A twentieth of the training images is the select split. Without an instances file of `train` there are no
        training images.

        Raises:
            DataError: if a file is missing, or not in COCO's layout.
        """
        folder, size = root / self.path, self.size
        attacked, names = _marked(folder, self.test, size, self.images)
        trained: tuple[Marked, ...] = ()
        if instances_file(folder, self.train).is_file():
            trained, others = _marked(folder, self.train, size, self.images)
            common = {one.id for one in attacked} & {one.id for one in trained}
            if others != names or common:
                what = f"image {min(common)} in common" if common else "other categories"
                raise DataError(
                    f"{instances_file(folder, self.train)} and {instances_file(folder, self.test)} have {what}; "
                    "expected the same categories and different images"
                )
        held_out = max(1, len(trained) // SELECT_PART) if trained else 0
        spec = DataSpec((3, size, size), len(names) + 1, MEAN, STD, ("background", *names), task(len(names)))
        parts = (trained[held_out:], trained[:held_out], attacked)
        empty = labels(attacked[0])[None][:0]
        train_, select, test_ = (
            Examples(
                torch.tensor([one.id for one in part], dtype=torch.int64),
                torch.stack([labels(one) for one in part]) if part else empty,
                _Disk(part, size),
            )
            for part in parts
        )
        return Splits(train_, select, test_, spec)


def instances_file(folder: Path, name: str) -> Path:
    """Path of the annotations of the images in `folder`/`name`."""
    return folder / "annotations" / f"instances_{name}.json"


def _marked(folder: Path, name: str, size: int, images: int) -> tuple[tuple[Marked, ...], tuple[str, ...]]:
    """Images of a split that have an object, and the names of the categories, in the order of their ids."""
    file = instances_file(folder, name)
    found = _instances(file)
    categories = sorted(found.categories, key=lambda one: one.id)
    label = {one.id: place for place, one in enumerate(categories, 1)}
    of: dict[int, list[Annotation]] = {one.id: [] for one in found.images}
    for names, kind, count in ((label, "categories", len(categories)), (of, "images", len(found.images))):
        if len(names) < count:
            raise DataError(f"{file} has the same id twice in {kind}; expected unique ids: download it again")
    for at, one in enumerate(found.annotations):
        if one.image_id not in of or one.category_id not in label:
            raise DataError(
                f"{file}: annotation {at} is of image {one.image_id} and category {one.category_id}, and the file does "
                "not list both; download it again, or correct the program that wrote it"
            )
        of[one.image_id].append(one)
    order = sorted(found.images, key=lambda one: derive_seed("coco", one.id))
    chosen = [one for one in order if any(not mark.iscrowd for mark in of[one.id])][:images]
    if not chosen:
        raise DataError(f"{file} has no image with an object; expected at least one annotation with iscrowd 0")
    marked = tuple(
        Marked(folder / name / one.file_name, one.id, Letterbox(one.width, one.height, size), tuple(of[one.id]), label)
        for one in chosen
    )
    lost = next((one.path for one in marked if not one.path.is_file()), None)
    if lost is not None:
        raise DataError(f"{file} lists {lost.name}, and {lost.parent} lacks it; unpack {name}.zip into {folder}")
    return marked, tuple(one.name for one in categories)


def _instances(file: Path) -> _Instances:
    try:
        return _Instances.model_validate_json(file.read_bytes())
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({error.strerror}); expected MS-COCO's layout (https://cocodataset.org): "
            "annotations/instances_NAME.json beside the folder NAME of images; set dataset.path, dataset.train and "
            "dataset.test to them"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{file} is not an instances file of MS-COCO: {place} is wrong ({first['msg']}); download it again, or "
            "correct the program that wrote it"
        ) from error
