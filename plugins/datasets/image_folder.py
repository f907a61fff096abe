"""Images in folders: the layout of ImageNet. Deng et al., CVPR 2009; Russakovsky et al., IJCV 2015.

`train/CLASS/*.jpg`, and `val/CLASS/*.jpg` or, without `val`, `test/CLASS/*.jpg`. Images are read from disk on demand:
the shorter side is resized to `resize` pixels (bilinear, antialiased) and the centre square of `size` pixels is
cropped. Classes are the sorted names of the folders in `train`. A twentieth of the training images, those whose paths
have the smallest hashes, is the select split. An id is a position in the sorted list of paths. A model that is not
trained needs no `train`; the classes are then the folders of the attacked images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataError, Dataset, DataSpec, Examples, Splits, derive_seed, hookimpl
from benchmark.records.content import content_sha256

from ._images import pixels, rgb

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics per channel of the training images of ImageNet, as usual for pretrained models."""

SELECT_PART = 20
"""One of this many training images is held out for the select split."""


def read_image(path: Path, resize: int, size: int) -> Tensor:
    """Read an image, resize it and crop its centre, (3, size, size) uint8.

    Raises:
        DataError: if the file is not a readable image.
    """
    from PIL import Image

    image = rgb(path)
    shorter = min(image.size)
    width, height = (max(resize, round(side * resize / shorter)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    cut = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return pixels(cut)


@dataclass(frozen=True)
class _Disk:
    """Reader of image files."""

    paths: tuple[Path, ...]
    resize: int
    size: int

    def __call__(self, positions: Tensor) -> Tensor:
        images = [read_image(self.paths[i], self.resize, self.size) for i in positions.tolist()]
        return torch.stack(images).float() / 255.0 if images else torch.empty(0, 3, self.size, self.size)


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """The user's own folder of images.

    path: the folder that contains `val` or `test`, and `train` if a model is trained; relative to the data folder.
    size: side of the square input, in pixels. resize: of the shorter side before the crop, at least `size`.
    """

    path: str = "image_folder"
    size: int = 224
    resize: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise ConfigError(
                f"dataset.size is {self.size} and dataset.resize is {self.resize}; expected 1 <= size <= resize"
            )

    def revision(self, root: Path) -> str:
        """Hash of the names and bytes of all files in the folder, independent of its location."""
        _listing(root / self.path)
        return content_sha256(root / self.path)

    def files(self, root: Path) -> tuple[Path, ...]:
        """The folder."""
        return (root / self.path,)

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of images (3, size, size); labels are the names of the folders.

        Raises:
            DataError: if the layout is another one.
        """
        folder = root / self.path
        train, test = _listing(folder)
        classes = tuple(sorted({path.parent.name for path in train or test}))
        unknown = sorted({path.parent.name for path in test} - set(classes))
        if unknown:
            raise DataError(
                f"{test[0].parents[1]} has classes that {folder / 'train'} lacks: {', '.join(unknown[:5])}; expected "
                "the same names in both"
            )
        paths = train + test
        label = {name: k for k, name in enumerate(classes)}
        every = Examples(
            torch.arange(len(paths)),
            torch.tensor([label[path.parent.name] for path in paths]),
            _Disk(paths, self.resize, self.size),
        )
        held_out = torch.zeros(len(paths), dtype=torch.bool)
        held_out[_select_rows(train, folder)] = True
        rows = torch.arange(len(paths))
        spec = DataSpec((3, self.size, self.size), len(classes), MEAN, STD, classes)
        return Splits(
            every.take(rows[: len(train)][~held_out[: len(train)]]),
            every.take(rows[held_out]),
            every.take(rows[len(train) :]),
            spec,
        )


def _select_rows(train: tuple[Path, ...], folder: Path) -> list[int]:
    """Positions of the training images with the smallest hashes."""
    order = sorted(range(len(train)), key=lambda i: derive_seed("select", train[i].relative_to(folder).as_posix()))
    return order[: max(1, len(train) // SELECT_PART)] if train else []


def _listing(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """All training and all test images, sorted; no training images without a folder of them.

    Raises:
        DataError: if there are none to attack.
    """
    test = folder / ("val" if (folder / "val").is_dir() else "test")
    found = tuple(
        tuple(sorted(path for path in part.glob("*/*") if path.suffix.lower() in SUFFIXES and path.is_file()))
        for part in (folder / "train", test)
    )
    for part, paths in zip(("train", "val (or test)"), found, strict=True):
        if not paths and (part != "train" or (folder / part).is_dir()):
            raise DataError(
                f"{folder} has no images in {part}/CLASS/; expected the layout of ImageNet (https://image-net.org): "
                "val/CLASS/*.jpg, and train/CLASS/*.jpg if a model is trained; set dataset.path to the folder that "
                "contains them"
            )
    return found[0], found[1]


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return ImageFolder
