"""The options of `benchmark add-examples`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands, add_data_option, add_store_option

__all__ = ["add_add_examples"]


def add_add_examples(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    command = commands.add_parser(
        "add-examples",
        help="add your own adversarial examples to a finished cell",
        description="Judge your own candidates by the threat of a cell and one forward pass, and record them as a cell "
        "of their own, which benchmark submit packs. One that is not valid or breaks nothing is refused by name.",
    )
    command.add_argument(
        "cell", type=Path, metavar="CELL", help="the folder of the cell; its system must be in the store"
    )
    command.add_argument(
        "--examples", type=Path, required=True, metavar="FILE", help="safetensors: ids (int64), x_adv (float32)"
    )
    add_store_option(command)
    add_data_option(command)
    command.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import add_examples

    return add_examples.main(options.cell, options.examples, options.store, options.data)
