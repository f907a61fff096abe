"""Options shared by several commands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from benchmark.errors import ConfigError
from benchmark.records.remote import lockable

__all__ = ["Commands", "add_data_option", "add_folder_option", "add_input_option", "add_store_option"]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Subparsers: the commands of a parser, or the actions of a command."""


def add_store_option(command: argparse.ArgumentParser, *, urls: bool = False) -> None:
    """Add --store.

    Args:
        urls: the command only reads the store, which may then be a URL, and gives it to `benchmark.records.remote`.
    """
    command.add_argument(
        "--store",
        type=str if urls else _folder,
        default="results" if urls else Path("results"),
        metavar="PATH|URL" if urls else "PATH",
        help="the store, named by store.root in the run; default: results",
    )


def _folder(text: str) -> Path:
    """Path of a store that the command writes."""
    try:
        return Path(lockable(text))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_data_option(command: argparse.ArgumentParser) -> None:
    """Add --data."""
    command.add_argument(
        "--data", type=Path, default=Path("data"), metavar="PATH", help="folder of the data files; default: data"
    )


def add_folder_option(command: argparse.ArgumentParser, what: str) -> None:
    """Add --config-dir. what: what the folder's named settings are used for."""
    command.add_argument("--config-dir", type=config_folder, metavar="DIR", help=what)


def config_folder(path: str) -> Path:
    """Existing folder of configurations, absolute.

    Raises:
        PluginError: if there is none.
    """
    from benchmark.errors import PluginError

    folder = Path(path).absolute()
    if not folder.is_dir():
        raise PluginError(f"there is no folder {path}; --config-dir names one with folders such as attack/")
    return folder


def add_input_option(command: argparse.ArgumentParser) -> None:
    """Add --input."""
    command.add_argument(
        "--input",
        type=Path,
        action="append",
        metavar="PATH",
        help="new path of a file or folder that a record identifies by content; repeatable",
    )
