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
        """Identifier of the content, computed without loading it: a pinned checksum, or a hash of the files."""

    @abstractmethod
    def load(self, root: Path, *, offline: bool) -> Splits:
        """Read the examples, after downloading them into `root` where that is allowed.

        Args:
            root: the data folder. offline: True forbids downloads.

        Raises:
            DataError: if a file is missing or wrong; the message has its URL, name and folder.
        """

    def files(self, root: Path) -> tuple[Path, ...]:
        """The user's own files and folders, whose change must invalidate cached results (pinned downloads need none).

        In keys and records their content replaces the setting that names them, so a path is not part of a result.
        """
        return ()
