"""GTSRB: German traffic signs, 43 classes. Stallkamp, Schlipsing, Salmen & Igel, Neural Networks 32, 2012.

In the published layout, from local files: `Final_Training/Images/00000/*.ppm` with `GT-00000.csv` for each class, and
`Final_Test/Images/*.ppm` with `GT-final_test.csv`, there or in the folder above either.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataError, Dataset, DataSpec, Examples, Splits, derive_seed, hookimpl
from benchmark.records.content import content_sha256

from ._images import pixels, rgb
from .image_folder import SELECT_PART

MEAN, STD = (0.3403, 0.3121, 0.3214), (0.2724, 0.2608, 0.2669)
"""Statistics per channel of the training images, as usual for this dataset."""

COLUMNS = ("Filename", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")


@dataclass(frozen=True)
class _Sign:
    """An image, its sign's box (left, top, right, bottom; the last two excluded) in pixels, and its class."""

    path: Path
    box: tuple[int, int, int, int]
    label: int


@dataclass(frozen=True)
class _Disk:
    """Reader of image files."""

    signs: tuple[_Sign, ...]
    size: int
    crop: bool

    def __call__(self, positions: Tensor) -> Tensor:
        images = [self._read(self.signs[i]) for i in positions.tolist()]
        return torch.stack(images).float() / 255.0 if images else torch.empty(0, 3, self.size, self.size)

    def _read(self, sign: _Sign) -> Tensor:
        from PIL import Image

        image = rgb(sign.path)
        if self.crop:
            left, top, right, bottom = sign.box
            if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
                raise DataError(
                    f"{sign.path} has {image.width}x{image.height} pixels, and its box in the CSV file is {sign.box}; "
                    "expected a box inside the image: download the archive again, or set dataset.crop=false"
                )
            image = image.crop(sign.box)
        return pixels(image.resize((self.size, self.size), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class GTSRB(Dataset):
    """Squares of `size` pixels. A twentieth of the tracks (frames of one sign) is the select split, by their hashes.

    A model that is not trained needs no training images. An id is a position in the sorted list of paths.

    path: the folder that contains `Final_Training` and `Final_Test`; relative to the data folder. size: side of an
    image. crop: cut out the sign, by the box in the CSV files; else the margin around it stays.
    """

    path: str = "GTSRB"
    size: int = 32
    crop: bool = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"dataset.size is {self.size}; expected at least 1 pixel")

    def revision(self, root: Path) -> str:
        """Hash of the names and bytes of all files in the folder, independent of its location."""
        return content_sha256(root / self.path)

    def files(self, root: Path) -> tuple[Path, ...]:
        """The folder."""
        return (root / self.path,)

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of images (3, size, size).

        Raises:
            DataError: if a file is missing, or of another layout.
        """
        folder = root / self.path
        tables = sorted((folder / "Final_Training" / "Images").glob("*/GT-*.csv"))
        train = [sign for table in tables for sign in _listed(table, table.parent)]
        images = folder / "Final_Test" / "Images"
        places = [place / "GT-final_test.csv" for place in (images, images.parent, folder)]
        test = _listed(next((place for place in places if place.is_file()), places[0]), images)
        signs = tuple(train + test)
        classes = 1 + max(sign.label for sign in signs)
        every = Examples(
            torch.arange(len(signs)), torch.tensor([sign.label for sign in signs]), _Disk(signs, self.size, self.crop)
        )
        held_out = _select(train)
        rows, number = torch.arange(len(signs)), len(train)
        names = tuple(f"{label:05d}" for label in range(classes))
        return Splits(
            every.take(rows[:number][~held_out]),
            every.take(rows[:number][held_out]),
            every.take(rows[number:]),
            DataSpec((3, self.size, self.size), classes, MEAN, STD, names),
        )


def _select(train: list[_Sign]) -> Tensor:
    """True for the images of the tracks with the smallest hashes, (N,) bool; a track is CLASS/TRACK_FRAME.ppm."""
    tracks = [f"{sign.path.parent.name}/{sign.path.stem.partition('_')[0]}" for sign in train]
    order = sorted(set(tracks), key=lambda track: derive_seed("select", track))
    held_out = set(order[: max(1, len(order) // SELECT_PART)])
    return torch.tensor([track in held_out for track in tracks], dtype=torch.bool)


def _listed(table: Path, images: Path) -> list[_Sign]:
    """Signs of a CSV file, sorted by path.

    Raises:
        DataError: if it cannot be read, or lists an image that is not there.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, delimiter=";"))
        signs = []
        for row in rows:
            name, *numbers = (row[column] for column in COLUMNS)
            left, top, right, bottom, label = map(int, numbers)
            signs.append(_Sign(images / name, (left, top, right, bottom), label))
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{table} cannot be read ({error}); expected GTSRB's layout (https://benchmark.ini.rub.de): lines of "
            f"{';'.join(COLUMNS)}, and Width and Height; the test labels are in GTSRB_Final_Test_GT.zip"
        ) from error
    lost = next((sign.path for sign in signs if not sign.path.is_file()), None)
    if lost is not None or not signs or min(sign.label for sign in signs) < 0:
        what = f"lists {lost}, which is not there" if lost else "lists no sign" if not signs else "has a negative class"
        raise DataError(f"{table} {what}; unpack the archives of GTSRB again")
    return sorted(signs, key=lambda sign: sign.path)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return GTSRB
