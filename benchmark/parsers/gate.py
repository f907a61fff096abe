"""The options of `benchmark gate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands, add_data_option, add_folder_option, add_store_option

__all__ = ["add_gate"]


def add_gate(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    gate = commands.add_parser(
        "gate",
        help="decide for continuous integration whether a store reaches its goals",
        description="Compare each system of a store with goals, on exact bounds at 95 %: the worst case over all its "
        "attacks, single attacks, single labels, and a baseline on the same examples. Ends with 0 if all goals are "
        "reached, 1 if one is missed, 3 if the examples are too few to tell, 2 for a wrong option or store. The reason "
        "is one line on stderr.",
    )
    add_store_option(gate)
    add_data_option(gate)
    gate.add_argument("--at-least", type=float, metavar="SHARE", help="robust accuracy in the worst case, such as 0.4")
    gate.add_argument("--clean", type=float, metavar="SHARE", help="accuracy without an attack")
    gate.add_argument("--attack", action="append", default=[], metavar="NAME=SHARE", help="against one attack alone")
    add_folder_option(gate, "folder of your own variants, which --attack may name")
    gate.add_argument("--every-class", type=float, metavar="SHARE", help="worst case among the examples of each label")
    gate.add_argument("--class", action="append", default=[], dest="labels", metavar="LABEL=SHARE",
                      help="worst case among the examples of one label")  # fmt: skip
    gate.add_argument("--baseline", type=Path, metavar="STORE", help="an earlier version, compared example by example")
    gate.add_argument("--loss", type=float, default=0.05, metavar="SHARE",
                      help="tolerated loss against the baseline; default: 0.05")  # fmt: skip
    gate.add_argument("--witnesses", type=Path, metavar="STORE",
                      help="show the systems the witnesses of this store too; one that fools counts")  # fmt: skip
    for name, what in (("junit", "JUnit XML"), ("sarif", "SARIF 2.1.0"), ("markdown", "a comment in Markdown"),
                       ("evidence", "an evidence page in Markdown"), ("card", "a model card in Markdown")):  # fmt: skip
        gate.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write {what}")
    gate.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import gate

    return gate.main(options)
