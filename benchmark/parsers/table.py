"""The options of `benchmark table`."""

from __future__ import annotations

import argparse

from benchmark.parsers.options import Commands, add_store_option
from benchmark.records.tables import FORMATS

__all__ = ["add_table"]


def add_table(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    table = commands.add_parser(
        "table",
        help="print cells as a table: text, CSV, Markdown or LaTeX",
        description="Print a row per cell, with robust and clean accuracy and their 95 % intervals.",
    )
    table.add_argument("choices", nargs="*", metavar="CELLS", help="folders, keys or systems; default: the whole store")
    table.add_argument("--format", default="text", choices=FORMATS, help="default: text")
    add_store_option(table, urls=True)
    table.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import table
    from benchmark.records.remote import fetched

    return table.main(options.choices, fetched(options.store), options.format)
