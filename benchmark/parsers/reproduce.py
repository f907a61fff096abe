"""The options of `benchmark reproduce`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands, add_data_option, add_input_option, add_store_option

__all__ = ["add_reproduce"]


def add_reproduce(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    reproduce = commands.add_parser(
        "reproduce",
        help="recompute a recorded cell, and report the differences",
        description="Train and attack again as a record describes, in a temporary store, and compare "
        "outcomes and witness bit for bit. Ends with 1 if they differ.",
    )
    reproduce.add_argument("record", type=Path, metavar="RECORD", help="a cell's folder, or its record.json")
    add_store_option(reproduce)
    add_data_option(reproduce)
    add_input_option(reproduce)
    reproduce.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import reproduce

    return reproduce.main(options.record, options.store, options.data, inputs=options.input or ())
