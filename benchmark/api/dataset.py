"""The contract of datasets."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

from benchmark.api.component import Component
from benchmark.data import Splits

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset(Component):
    """A source of examples."""

    @abstractmethod
    def revision(self, root: Path) -> str:
        """An identifier of the content, found without loading it: a pinned checksum, or a hash of the files."""

    @abstractmethod
    def load(self, root: Path, *, offline: bool) -> Splits:
        """Read (and where allowed, download into `root`) the examples.

        Raises:
            DataError: naming the URL, the expected file and its folder where a file is missing or wrong.
        """

    def files(self, root: Path) -> tuple[Path, ...]:
        """The user's own files and folders whose change must invalidate a cached result (pinned downloads need none).

        In keys and records their content stands for a setting that names one of them, so where they lie is no part of
        a result.
        """
        return ()
