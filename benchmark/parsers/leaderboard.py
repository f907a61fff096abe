"""The options of `benchmark leaderboard`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmark.errors import ConfigError, RecordError
from benchmark.parsers.options import Commands, add_data_option, add_store_option

__all__ = ["add_leaderboard"]


def add_leaderboard(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    leaderboard = commands.add_parser(
        "leaderboard",
        help="build the static site from records, review and replay results, retract",
        description="Build the static site from records, and keep published results.",
    )
    actions = leaderboard.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_build(actions)
    _add_check(actions)
    _add_pack(actions)
    _add_replay(actions)
    _add_retract(actions)


def _add_build(actions: Commands) -> None:
    build = actions.add_parser(
        "build",
        help="records in, pages out",
        description="Build the site, which opens from disk and fetches nothing, from the records under the folders. "
        "The same records give the same bytes.",
    )
    build.add_argument(
        "--results",
        action="append",
        metavar="PATH|URL",
        help="a folder of cells; may be given again; default: results/cells",
    )
    build.add_argument(
        "--out", type=Path, default=Path("results/leaderboard"), metavar="PATH", help="default: results/leaderboard"
    )
    build.add_argument(
        "--check", action="store_true", help="write nothing; end with 1 if the site does not match the records"
    )
    build.add_argument("--single-file", action="store_true", help="one HTML file with everything in it, at --out")
    build.add_argument(
        "--board", default="", metavar="NAME", help="with --single-file: only boards whose name contains this"
    )
    build.add_argument(
        "--since", action="append", metavar="PATH|URL", help="results of the last release: adds what changed"
    )
    build.set_defaults(command=_build)


def _add_pack(actions: Commands) -> None:
    pack = actions.add_parser(
        "pack",
        help="add cells to published results, in compact form",
        description="Add complete cells to the folder of their suite among published results: outcomes as packed bits "
        "with exact distances, witnesses as copies or as links with their sha256. Existing files are not changed.",
    )
    pack.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    pack.add_argument("--into", type=Path, default=Path("leaderboard/results"), metavar="PATH",
                      help="default: leaderboard/results")  # fmt: skip
    pack.add_argument(
        "--link", default="", metavar="URL", help="URL of the cells' files, as KEY/FILE: link instead of copying"
    )
    pack.set_defaults(command=_pack)


def _add_retract(actions: Commands) -> None:
    retract = actions.add_parser(
        "retract",
        help="remove a published cell from its boards, with a reason",
        description="Write a file beside a cell that says why it does not count. Rebuild the site afterwards.",
    )
    retract.add_argument("cell", type=Path, metavar="CELL", help="the folder of the cell; its files stay")
    retract.add_argument("--reason", required=True, metavar="TEXT", help="the reason, shown on the site")
    retract.add_argument("--by", default="", metavar="KEY", help="the cell that supersedes it")
    retract.set_defaults(command=_retract)


def _add_check(actions: Commands) -> None:
    check = actions.add_parser(
        "check",
        help="review a submission",
        description="Judge a submission as data, prove its witnesses where weights and data are at hand, and print the "
        "review in Markdown. Ends with 1 if it is refused.",
    )
    check.add_argument("submission", type=Path, metavar="PATH", help="a folder or a zip that benchmark submit made")
    check.add_argument("--results", type=Path, action="append", metavar="PATH", help="folder of the published results")
    check.add_argument(
        "--store", type=Path, metavar="PATH", help="store of trained systems, besides the submitted ones"
    )
    add_data_option(check)
    check.add_argument("--into", type=Path, metavar="PATH", help="add an accepted submission to these results")
    check.set_defaults(command=_check)


def _add_replay(actions: Commands) -> None:
    replay = actions.add_parser(
        "replay",
        help="judge published witnesses again by ONNX Runtime",
        description="Export the system of each cell to ONNX, let ONNX Runtime answer its clean examples and its "
        "witness, and write how many answers agree beside the record. Ends with 1 if one does not. Needs the extras "
        "onnx and onnxruntime.",
    )
    replay.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="published cells, or folders of cells")
    add_store_option(replay)
    add_data_option(replay)
    replay.set_defaults(command=_replay)


def _build(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import build

    from benchmark.records.remote import fetched

    if options.board and not options.single_file:
        raise ConfigError("--board chooses what goes into --single-file; give both, or leave it out")
    results = [fetched(place) for place in options.results or ["results/cells"]]
    since = [fetched(place) for place in options.since or ()]
    missing = [str(path) for path in (*results, *since) if not path.exists()]
    if missing:
        raise RecordError(f"there is no {' and no '.join(missing)}; name folders of cells")
    status: int = build.main(
        results,
        options.out,
        check=options.check,
        single=options.single_file,
        board=options.board,
        since=since,
    )
    return status


def _check(options: argparse.Namespace) -> int:
    from benchmark_leaderboard.review import check

    status: int = check.main(
        options.submission, options.results or [], store=options.store, data=options.data, into=options.into
    )
    return status


def _pack(options: argparse.Namespace) -> int:
    from benchmark_leaderboard.review import pack

    status: int = pack.main(options.paths, options.into, options.link)
    return status


def _replay(options: argparse.Namespace) -> int:
    from benchmark_leaderboard.review import foreign

    status: int = foreign.main(options.paths, options.store, options.data)
    return status


def _retract(options: argparse.Namespace) -> int:
    from benchmark_leaderboard.cells import retraction

    sys.stdout.write(f"{retraction.withdraw(options.cell, options.reason, by=options.by)}\n")
    return 0
