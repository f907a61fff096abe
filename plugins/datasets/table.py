"""A table from a file of separated values or ARFF, with constraints on changes of its features. No paper.

An input that could not be a row of the table is not an adversarial example: whole numbers stay whole, a category has
one of its values, and some features cannot change, or only in one direction. The core enforces these rules.

The published layouts of Spambase (no header, the label last), German credit (separated by blanks, no header; or Weka's
ARFF), phishing (ARFF of -1, 0 and 1) and KDD intrusions (no header, the label last) can be read directly. An id is a
row. Of ten rows two are the test split and one the select split, chosen by their ids; or a second file is the whole
test split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataError, Dataset, DataSpec, Examples, SampleRandom, Splits, hookimpl
from benchmark.records.document import content_key
from benchmark.records.durable import file_sha256

from ._columns import Column, Treated, features, ordered, read

TEST, SELECT = 0.2, 0.1
"""Shares of the rows per split."""


@dataclass(frozen=True)
class Table(Dataset):
    """Columns of strings are categories, one-hot; numbers are scaled to [0, 1] by their range.

    path: the file, relative to the working directory of the command. test_path: a file whose rows are attacked.
    label: column of the classes, by name, or its number from 0; -1 is the last. delimiter, header: of separated
    values; without a header the columns are c0, c1 and so on.
    drop: columns left out. integer: columns of whole numbers, which stay whole. categorical: columns of numbers that
    are categories. immutable: columns that cannot change. rising, falling: columns that can only grow, or only shrink.
    ranges: `name:low:high` in the units of the file, in place of the range of the training rows.
    """

    path: str = "table.csv"
    test_path: str = ""
    label: str = "-1"
    delimiter: str = ","
    header: bool = True
    drop: tuple[str, ...] = ()
    integer: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    immutable: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()
    falling: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1:
            raise ConfigError(f"dataset.delimiter is {self.delimiter!r}; expected one character, such as ',' or ' '")
        both = sorted(set(self.rising) & set(self.falling))
        if both:
            raise ConfigError(
                f"dataset.rising and dataset.falling both name {both[0]!r}; declare a column that can do neither "
                "immutable"
            )
        self._ranges()

    def _ranges(self) -> dict[str, tuple[float, float]]:
        found = {}
        for text in self.ranges:
            name, *ends = text.rsplit(":", 2)
            try:
                low, high = (float(end) for end in ends)
            except ValueError:
                low, high = 0.0, 0.0
            if not low < high:
                raise ConfigError(f"dataset.ranges has {text!r}; expected name:low:high, such as age:18:90")
            found[name] = (low, high)
        return found

    def revision(self, root: Path) -> str:
        """sha256 of the files."""
        return content_key([file_sha256(path) for path in self._files()])

    def files(self, root: Path) -> tuple[Path, ...]:
        """The file of the table, and that of its test rows, if any."""
        return tuple(Path(path) for path in (self.path, self.test_path) if path)

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of (D,) features with their rules.

        Raises:
            DataError: if a file is missing or unreadable, or lacks a named column.
        """
        tables = [read(path, self.delimiter, self.header) for path in self._files()]
        first, count = tables[0], len(next(iter(tables[0].values())))
        if any(list(table) != list(first) for table in tables):
            raise DataError(
                f"{self.path} and {self.test_path} have different columns; expected the same columns in the same order"
            )
        columns: dict[str, Column] = {
            name: [*first[name], *(tables[1][name] if self.test_path else [])] for name in first
        }
        label = self._label(list(columns))
        self._check(set(columns) - {label})
        names = ordered(columns[label])
        place = {name: at for at, name in enumerate(names)}
        y = torch.tensor(
            [place[word] for word in (f"{v:g}" if isinstance(v, float) else v for v in columns.pop(label))]
        )
        for name in self.drop:
            del columns[name]
        parts = _parts(len(y), count)
        treated = Treated(
            integer=frozenset(self.integer),
            categorical=frozenset(self.categorical),
            fixed=frozenset(self.immutable),
            rising=frozenset(self.rising),
            falling=frozenset(self.falling),
            ranges=self._ranges(),
        )
        x, rules = features(columns, treated, parts["train"])
        every = Examples.of(torch.arange(len(y)), x, y)
        train = x[parts["train"]].double()
        std = train.std(0, correction=0)
        spec = DataSpec(
            (x.shape[1],),
            len(names),
            tuple(round(v, 6) for v in train.mean(0).tolist()),
            tuple(round(v, 6) for v in torch.where(std > 1e-4, std, 1.0).tolist()),
            tuple(names),
        )
        return Splits(**{part: every.take(rows) for part, rows in parts.items()}, spec=replace(spec, rules=rules))

    def _files(self) -> list[Path]:
        for path in self.files(Path()):
            if not path.is_file():
                raise DataError(
                    f"{str(path)!r} is not a file in {Path.cwd()}; expected for dataset.path and dataset.test_path a "
                    "table with a "
                    "header (.csv) or an .arff file"
                )
        return list(self.files(Path()))

    def _label(self, names: list[str]) -> str:
        if self.label in names:
            return self.label
        try:
            return names[int(self.label)]
        except (ValueError, IndexError):
            raise DataError(
                f"dataset.label is {self.label!r}, but {self.path} has the columns {', '.join(names[:20])}; expected "
                "one of them, or a number from 0, where -1 is the last"
            ) from None

    def _check(self, names: set[str]) -> None:
        for setting in ("drop", "integer", "categorical", "immutable", "rising", "falling"):
            unknown = sorted(set(getattr(self, setting)) - names)
            if unknown:
                raise DataError(
                    f"dataset.{setting} names {unknown[0]!r}, which is not a feature of {self.path}; it has "
                    f"{', '.join(sorted(names)[:20])}"
                )
        unknown = sorted(set(self._ranges()) - names)
        if unknown:
            raise DataError(f"dataset.ranges names {unknown[0]!r}, which is not a feature of {self.path}")


def _parts(count: int, first: int) -> dict[str, Tensor]:
    """Positions of the splits; the test rows are those from `first` on, if given."""
    ids = torch.arange(count)
    drawn = SampleRandom(0, ids).uniform(stream="table")
    test = ids >= first if first < count else drawn < TEST
    select = ~test & (drawn >= TEST) & (drawn < TEST + SELECT)
    return {"train": ids[~test & ~select], "select": ids[select], "test": ids[test]}


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Table
