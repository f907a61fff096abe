"""The command line: `benchmark run`, `plugins`, `new`, `status`, `verify`, `transfer`, `leaderboard` and others.

Slow imports are made by the command that needs them: help, listings and records load no torch.
"""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Sequence

from benchmark import __version__
from benchmark.errors import BenchmarkError
from benchmark.guard import Terminated, listening
from benchmark.parsers.add_examples import add_add_examples
from benchmark.parsers.compare import add_compare
from benchmark.parsers.fetch import add_fetch
from benchmark.parsers.gate import add_gate
from benchmark.parsers.harden import add_harden, overrides_first
from benchmark.parsers.leaderboard import add_leaderboard
from benchmark.parsers.new import add_new
from benchmark.parsers.plan import run_plan
from benchmark.parsers.plugins import add_plugins
from benchmark.parsers.publish import add_publish
from benchmark.parsers.reattack import add_reattack
from benchmark.parsers.report import add_report
from benchmark.parsers.reproduce import add_reproduce
from benchmark.parsers.status import add_status
from benchmark.parsers.store import add_store
from benchmark.parsers.submit import add_submit
from benchmark.parsers.table import add_table
from benchmark.parsers.transfer import add_transfer
from benchmark.parsers.verify import add_verify
from benchmark.parsers.work import add_work

__all__ = ["main"]

EPILOG = """\
examples:
  benchmark run attack=pgd threat=linf_8_255
  benchmark run -m attack=fgsm,pgd 'defense=[],[adversarial_training]' seed=0,1,2
  benchmark run model=net.py:MyNet model.weights=w.pt dataset=arrays
  benchmark status
  benchmark compare digits/mlp digits/small_cnn
  benchmark plugins attack
  benchmark plugins attack.pgd
  benchmark new attack acme

COMMAND --help says more about each.
"""


RENAMED = {"lower": "add-examples"}
"""Commands of version 0.1 under their new names."""

ADDED = (
    add_work,
    add_plugins,
    add_new,
    add_status,
    add_gate,
    add_harden,
    add_store,
    add_compare,
    add_table,
    add_verify,
    add_reproduce,
    add_transfer,
    add_leaderboard,
    add_submit,
    add_add_examples,
    add_fetch,
    add_reattack,
    add_publish,
    add_report,
)
"""Functions that add the commands to the parser, in the order of the help, after `run` and `plan`."""


def _bare(error: UnicodeError) -> tuple[str, int]:
    """Replacement, without accents or as question marks, of characters that a stream cannot encode."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(
        unicodedata.normalize("NFKD", one).encode("ascii", "ignore").decode() or "?" for one in lost
    ), error.end


codecs.register_error("benchmark.bare", _bare)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 on success, 1 if something failed, 2 for a user error, 130 if interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            narrow = codecs.lookup(stream.encoding).name != "utf-8"  # its readers may take it for UTF-8, as ASCII is
            stream.reconfigure(encoding="ascii" if narrow else None, errors="benchmark.bare")
    try:
        with listening():
            status = _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BenchmarkError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("benchmark: interrupted; run the same command again to resume\n")
        return 130
    except Terminated:
        sys.stderr.write("benchmark: ended by SIGTERM; run the same command again to resume\n")
        return 143
    return status


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-sc", "--shell-completion"):
        from benchmark.sweep import app

        return app.complete(arguments)
    if arguments and arguments[0] in RENAMED:
        old, new = arguments[0], RENAMED[arguments[0]]
        sys.stderr.write(f"benchmark: the command {old} is now {new}; the old name is removed in version 0.3\n")
        arguments = [new, *arguments[1:]]
    if arguments and arguments[0] == "run":
        return _run(arguments[1:])
    if arguments and arguments[0] == "harden":
        arguments = ["harden", *overrides_first(arguments[1:])]
    if arguments and arguments[0] == "plan":
        return run_plan(arguments[1:])
    options = _parser().parse_args(arguments)
    command = getattr(options, "command", None)
    if command is None:
        _parser().print_help()
        return 0
    status: int = command(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark",
        description="A benchmark harness for adversarial robustness.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"benchmark {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands.add_parser("run", help="run a cell, or with -m a sweep", add_help=False)
    commands.add_parser("plan", help="write a sweep to a file, for tasks to work on", add_help=False)
    for add in ADDED:
        add(commands)
    return parser


def _run(arguments: list[str]) -> int:
    if "--hydra-help" not in arguments and any(word in ("-h", "--help") for word in arguments):
        from benchmark.commands.help import run_help

        print(run_help())
        return 0
    from benchmark.sweep import app

    return app.main(arguments)
