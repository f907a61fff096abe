"""The options of `benchmark submit`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands, add_store_option

__all__ = ["add_submit"]


def add_submit(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    submit = commands.add_parser(
        "submit",
        help="pack finished cells for a leaderboard",
        description="Pack complete cells with the cards of their systems, each checked as a reviewer will.",
    )
    submit.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    submit.add_argument("--out", type=Path, required=True, metavar="PATH", help="a folder, or a file ending in .zip")
    submit.add_argument("--name", required=True, metavar="NAME", help="name of the submitter, as shown on the board")
    submit.add_argument("--url", default="", metavar="URL", help="web page about the submission, https only")
    submit.add_argument("--note", default="", metavar="TEXT", help="note to the reviewers")
    submit.add_argument("--weights", action="store_true", help="pack the weights too, so that anybody can verify")
    add_store_option(submit)
    submit.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark_leaderboard.review import submission

    status: int = submission.main(
        options.paths,
        options.store,
        options.out,
        name=options.name,
        url=options.url,
        note=options.note,
        weights=options.weights,
    )
    return status
