"""The options of `benchmark compare`."""

from __future__ import annotations

import argparse

from benchmark.parsers.options import Commands, add_store_option

__all__ = ["add_compare"]


def add_compare(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    compare = commands.add_parser(
        "compare",
        help="compare two systems or attacks on the same examples",
        description="Print the difference in robust accuracy of two choices of cells with its interval, the exact "
        "paired test, and the examples that only one keeps. Each choice is taken at its worst over its attacks.",
    )
    for place in ("first", "second"):
        compare.add_argument(place, metavar=place.upper(), help="a cell's folder, a key or its beginning, or a system")
    compare.add_argument(
        "--threat", default="", metavar="NAME", help="keep only cells of this threat, such as 'linf 1/10'"
    )
    compare.add_argument("--attack", default="", metavar="NAME", help="keep only cells of this attack, such as pgd")
    add_store_option(compare, urls=True)
    compare.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import compare
    from benchmark.records.remote import fetched

    store = fetched(options.store)
    return compare.main(options.first, options.second, store, threat=options.threat, attack=options.attack)
