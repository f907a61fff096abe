"""The user's own arrays, in a NumPy archive (.npz) or a safetensors file. No paper.

`x_train`, `y_train`, `x_test` and `y_test`; also `x_select` and `y_select`, or every twentieth training example is held
out for the select split. `x_test` and `y_test` suffice for a model that is not trained. `x` is (N, C, H, W) for images
and (N, D) for tables: floats in [0, 1], or bytes for x / 255. `y` is (N,): whole numbers from 0. Mean and standard
deviation are those of the training examples, per channel or feature (0 and 1 without any). An id is a position in
train, then select if it is in the file, then test. Pickled arrays are not read.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmark.api import ConfigError, DataError, Dataset, DataSpec, Examples, Splits, hookimpl
from benchmark.records.durable import file_sha256

SELECT_PART = 20
"""Every n-th training example is held out if the file has no select split."""
EXPECTED = "x_train, y_train, x_test and y_test, and where there is a select split x_select and y_select"
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Arrays(Dataset):
    """The user's own file, read into memory.

    path: the file; relative to the working directory of the command.
    classes: number of classes, for files without examples of the last ones; 0 for the largest label plus 1.
    """

    path: str = "data.npz"
    classes: int = 0

    def __post_init__(self) -> None:
        if self.classes < 0 or self.classes == 1:
            raise ConfigError(f"dataset.classes is {self.classes}; expected at least 2, or 0 to count the labels")

    def revision(self, root: Path) -> str:
        """sha256 of the file."""
        return file_sha256(self._file())

    def files(self, root: Path) -> tuple[Path, ...]:
        """The file."""
        return (Path(self.path),)

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Read the three splits.

        Raises:
            DataError: if the file is missing or unreadable, or an array is not as its name says.
        """
        file = self._file()
        arrays = _read(file)
        alone = not any(f"{axis}_{part}" in arrays for axis in "xy" for part in ("train", "select"))
        optional = ("train", "select") if alone and "x_test" in arrays else ("select",)
        parts = [part for part in ("train", "select", "test") if f"x_{part}" in arrays or part not in optional]
        wanted = [f"{axis}_{part}" for part in parts for axis in "xy"]
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise DataError(f"{file} has no {' and no '.join(missing)}, but {_listed(arrays)}; expected {EXPECTED}")
        x = {part: _inputs(f"x_{part} of {file}", arrays[f"x_{part}"]) for part in parts}
        y = {part: _labels(f"y_{part} of {file}", arrays[f"y_{part}"], len(x[part])) for part in parts}
        shapes = {tuple(values.shape[1:]) for values in x.values()}
        if len(shapes) > 1:
            raise DataError(f"the inputs of {file} have the shapes {sorted(shapes)}; expected one shape in all splits")
        _check_bytes(file, x)
        classes = self.classes or _counted(file, y)
        begin, examples = 0, {}
        for part in parts:
            ids = torch.arange(begin, begin + len(y[part]))
            examples[part] = Examples.of(ids, x[part], y[part])
            begin += len(ids)
        if "train" not in parts:
            nothing = examples["test"].take(torch.arange(0))
            return Splits(nothing, nothing, examples["test"], DataSpec(shapes.pop(), classes))
        train = examples["train"]
        if "select" not in parts:
            rows = torch.arange(len(train))
            held_out = rows % SELECT_PART == SELECT_PART - 1 if len(train) >= SELECT_PART else rows == len(train) - 1
            examples["select"], train = train.take(rows[held_out]), train.take(rows[~held_out])
        mean, std = _statistics(train)
        spec = DataSpec(shapes.pop(), classes, mean, std)
        return Splits(train, examples["select"], examples["test"], spec)

    def _file(self) -> Path:
        path = Path(self.path)
        if not path.is_file():
            raise DataError(
                f"dataset.path is {self.path!r}, which is not a file in {Path.cwd()}; expected a .npz or .safetensors "
                f"file with {EXPECTED}"
            )
        return path


def _read(file: Path) -> dict[str, Tensor]:
    """Arrays in the file by name, with their dtypes."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise DataError(f"{file} has a single array; expected an archive (numpy.savez) with {EXPECTED}")
        with found as archive:
            return {name: _tensor(archive[name]) for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        raise DataError(f"{file} cannot be read ({error}); expected numbers in a .npz or .safetensors file") from error


def _tensor(values: np.ndarray[Any, Any]) -> Tensor:
    """Tensor of the same numbers in native byte order and C order."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))


def _listed(arrays: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(values.shape)}" for name, values in sorted(arrays.items())) or "nothing"


def _inputs(what: str, x: Tensor) -> Tensor:
    """Check inputs (N, *S); bytes stay bytes, floats become float32."""
    shape = tuple(x.shape)
    if shape[:1] == (0,):
        raise DataError(f"{what} has no examples; expected at least one")
    if len(shape) not in (2, 4) or 0 in shape:
        grey = f"; grey images need a channel: x[:, None] is {(shape[0], 1, *shape[1:])}" if len(shape) == 3 else ""
        more = f"{grey}; signals a width: x[..., None] is {(*shape, 1)}" if grey else ""
        raise DataError(f"{what} has the shape {shape}; expected (N, C, H, W) for images or (N, D) for tables{more}")
    if len(shape) == 4 and _channels_last(shape):
        raise DataError(f"{what} has the shape {shape}, channels last; expected (N, C, H, W): x.transpose(0, 3, 1, 2)")
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise DataError(f"{what} has {_name(x)}; expected floats in [0, 1], or uint8 for x / 255")
    x = x.float()
    low, high = float(x.min()), float(x.max())
    if not (low >= 0.0 and high <= 1.0):
        raise DataError(
            f"{what} has values from {low:.8g} to {high:.8g}; expected floats in [0, 1], or uint8 for x / 255, and "
            "any normalisation inside the model"
        )
    return x


def _channels_last(shape: tuple[int, ...]) -> bool:
    """True for channels last, (N, H, W, C): few channels at the end, many rows in front.

    A signal (N, C, L, 1) has a last axis of another length; an image with two equal last axes has its channels in
    front.
    """
    square = shape[2] == shape[3] != shape[1]
    return shape[3] in CHANNELS and shape[1] > max(CHANNELS) and (shape[3] > 1 or shape[1] == shape[2]) and not square


def _check_bytes(file: Path, x: dict[str, Tensor]) -> None:
    """Refuse bytes that are only 0 and 1: divided by 255 they would be almost black."""
    if {values.dtype for values in x.values()} == {torch.uint8} and max(int(v.max()) for v in x.values()) == 1:
        raise DataError(
            f"the inputs of {file} are bytes of 0 and 1 only, but bytes stand for x / 255; expected bytes from 0 to "
            "255, or floats: multiply by 255, or store x.astype('float32')"
        )


def _counted(file: Path, y: dict[str, Tensor]) -> int:
    """Number of classes in the labels: the largest plus 1."""
    low, high = min(int(v.min()) for v in y.values()), max(int(v.max()) for v in y.values())
    if low > 0:
        raise DataError(
            f"the labels of {file} go from {low} to {high}; expected labels from 0: subtract {low}, or if the first "
            f"classes are missing on purpose, set dataset.classes={high + 1}"
        )
    return high + 1


def _labels(what: str, y: Tensor, count: int) -> Tensor:
    """Check labels, (N,) int64."""
    if tuple(y.shape) != (count,):
        raise DataError(f"{what} has the shape {tuple(y.shape)}; expected ({count},), one label for each input")
    expected = "expected whole numbers from 0, of a type such as int64"
    if y.is_complex():
        raise DataError(f"{what} has {_name(y)}; {expected}")
    labels = y if y.is_floating_point() else y.long()
    if y.is_floating_point() or int(labels.min()) < 0:
        raise DataError(f"{what} has {_name(y)} from {labels.min().item()}; {expected}")
    return labels


def _name(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def _statistics(train: Examples) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of (N, C, H, W) or per feature of (N, D); 1 for a constant."""
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for rows in torch.arange(len(train)).split(4096):
        x = train.x(rows).double().flatten(2) if train.x(rows[:1]).ndim == 4 else train.x(rows).double()[:, :, None]
        count += x.shape[0] * x.shape[2]
        total, squares = total + x.sum((0, 2)), squares + x.square().sum((0, 2))
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0.0).sqrt()
    std = torch.where(std > 1e-4, std, 1.0)
    return tuple(round(v, 6) for v in mean.tolist()), tuple(round(v, 6) for v in std.tolist())


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Arrays
