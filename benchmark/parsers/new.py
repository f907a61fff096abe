"""The options of `benchmark new`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmark import registry
from benchmark.parsers.options import Commands

__all__ = ["add_new"]


def add_new(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    new = commands.add_parser(
        "new",
        help="create a plugin package",
        description="Write a complete package with one working plugin, its test and a README.",
    )
    new.add_argument("kind", metavar="KIND", choices=registry.KINDS, help=f"one of {', '.join(registry.KINDS)}")
    new.add_argument("name", metavar="NAME", help="lower case, such as acme; the plugin is then KIND=NAME")
    new.add_argument(
        "--into", type=Path, default=Path(), metavar="DIR", help="parent folder; default: the current folder"
    )
    new.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands.new import write_package

    folder = write_package(options.kind, options.name, options.into)
    sys.stdout.write(
        f"wrote {folder}/\n"
        f"  cd {folder} && pip install -e '.[test]' && pytest\n"
        f"  benchmark plugins check {options.kind}.{options.name}\n"
    )
    return 0
