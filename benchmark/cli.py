"""The command line: `benchmark run`, `plugins`, `new`, `status`, `verify`, `transfer`, `leaderboard`, and the like.

Everything that is slow to import is imported by the command that needs it: help, listings and records load no torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark import __version__, registry
from benchmark.commands import gate, harden
from benchmark.errors import BenchmarkError, ConfigError, PluginError, RecordError
from benchmark.guard import Terminated, listening
from benchmark.records.tables import FORMATS

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 where something failed, 2 for what the user can mend, 130 if interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character shows another in its place
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
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
        sys.stderr.write("benchmark: interrupted; the same command goes on where it stopped\n")
        return 130
    except Terminated:
        sys.stderr.write("benchmark: ended by SIGTERM; the same command goes on where it stopped\n")
        return 143
    return status


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-sc", "--shell-completion"):
        from benchmark.sweep import app

        return app.complete(arguments)
    if arguments and arguments[0] in RENAMED:
        old, new = arguments[0], RENAMED[arguments[0]]
        sys.stderr.write(f"benchmark: the command {old} is now {new}; the old name goes with version 0.3\n")
        arguments = [new, *arguments[1:]]
    if arguments and arguments[0] == "run":
        return _run(arguments[1:])
    if arguments and arguments[0] == "harden":
        arguments = ["harden", *harden.overrides_first(arguments[1:])]
    if arguments and arguments[0] == "plan":
        return _plan(arguments[1:])
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
    commands.add_parser("plan", help="freeze a sweep in a file, for tasks to work at", add_help=False)
    _add_work(commands)
    _add_plugins(commands)
    _add_new(commands)
    _add_status(commands)
    gate.add_gate(commands)
    harden.add_harden(commands)
    _add_keeping(commands)
    _add_compare(commands)
    _add_table(commands)
    _add_verify(commands)
    _add_reproduce(commands)
    _add_transfer(commands)
    _add_leaderboard(commands)
    _add_submit(commands)
    _add_examples(commands)
    _add_publish(commands)
    _add_report(commands)
    return parser


Commands = argparse._SubParsersAction


def _add_store(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--store", type=Path, default=Path("results"), metavar="PATH", help="what store.root was; default: results"
    )


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data", type=Path, default=Path("data"), metavar="PATH", help="the folder of the data files; default: data"
    )


def _add_input(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--input",
        type=Path,
        action="append",
        metavar="PATH",
        help="a file or folder that a record names by its content, if it lies elsewhere now; may be given again",
    )


def _add_work(commands: Commands[argparse.ArgumentParser]) -> None:
    work = commands.add_parser(
        "work",
        help="take cells of a plan until none is left",
        description="Take the next cell of a plan that is neither recorded nor held by another task, until none is "
        "left. Any number of tasks, on any machines that share the store, may do so, join late, die and come back.",
    )
    work.add_argument("plan", type=Path, metavar="PLAN", help="a file that benchmark plan wrote")
    work.set_defaults(command=_work)


def _add_plugins(commands: Commands[argparse.ArgumentParser]) -> None:
    plugins = commands.add_parser(
        "plugins",
        help="list what is installed, show the settings of one plugin, or check it",
        description="List the installed plugins (benchmark plugins, or benchmark plugins attack), show one with "
        "settings (benchmark plugins attack.pgd), or run the contract suite (benchmark plugins check attack.pgd).",
    )
    plugins.add_argument(
        "kind",
        nargs="?",
        metavar="KIND | KIND.NAME | check",
        help=f"one of {', '.join(registry.KINDS)}; one plugin, such as attack.pgd; or check",
    )
    plugins.add_argument("name", nargs="?", metavar="KIND.NAME", help="after check: the plugin, such as attack.pgd")
    plugins.add_argument("--json", action="store_true", help="print JSON")
    plugins.add_argument(
        "--config-dir", type=Path, metavar="DIR", help="also list the named settings (YAML) of a folder of yours"
    )
    plugins.set_defaults(command=_plugins)


def _add_new(commands: Commands[argparse.ArgumentParser]) -> None:
    new = commands.add_parser(
        "new",
        help="write a plugin package of your own",
        description="Write a complete package with one working plugin, its test and a README.",
    )
    new.add_argument("kind", metavar="KIND", choices=registry.KINDS, help=f"one of {', '.join(registry.KINDS)}")
    new.add_argument("name", metavar="NAME", help="lower case, such as acme; the plugin is then KIND=NAME")
    new.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="where its folder goes; default: here")
    new.set_defaults(command=_new)


def _add_status(commands: Commands[argparse.ArgumentParser]) -> None:
    status = commands.add_parser(
        "status",
        help="show the matrix of a store: robust accuracies, missing, failed, refused",
        description="Show robust accuracies with their 95 % intervals, what is missing, failed, refused and "
        "interrupted, and every error and finding. Ends with 1 if a cell failed, and with --at-least as `benchmark "
        "gate` does.",
    )
    _add_store(status)
    status.add_argument("--cells", action="store_true", help="one line per cell in place of the matrix")
    status.add_argument("--json", action="store_true", help="print JSON: every cell with its counts, or its traceback")
    status.add_argument("--at-least", type=float, metavar="SHARE", help="another name for benchmark gate --at-least")
    status.add_argument(
        "--stale", action="store_true", help="also list the cells that today's code would give another key, and why"
    )
    status.add_argument("--plan", type=Path, metavar="PLAN", help="show how far the tasks are that work at a plan")
    status.set_defaults(command=_status)


def _add_keeping(commands: Commands[argparse.ArgumentParser]) -> None:
    store = commands.add_parser(
        "store",
        help="check, clean, move or merge stores of results",
        description="Look after the files of a store: what is broken, orphaned or left over, and stores as a whole.",
    )
    actions = store.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="read every file and say what is broken",
        description="Compare every file with the checksum that its record or card gives. Ends with 1 if one differs.",
    )
    clean = actions.add_parser(
        "clean",
        help="set broken things aside, remove leftovers",
        description="Set aside what is broken, so that the next run makes it again, and remove what interrupted "
        "processes left and what was set aside before.",
    )
    clean.add_argument("--failed", action="store_true", help="also drop failed cells, so that they are computed again")
    clean.add_argument("--orphans", action="store_true", help="also remove systems that no cell names, and stray work")
    move = actions.add_parser("move", help="move a store", description="Move a store, also to another file system.")
    move.add_argument("to", type=Path, metavar="PATH", help="where it shall be; nothing may be there")
    merge = actions.add_parser(
        "merge",
        help="take the cells and systems of another store",
        description="Copy cells and systems of another store into this one. Two that differ under one key are named "
        "and stay as they are; then it ends with 1.",
    )
    merge.add_argument("other", type=Path, metavar="STORE", help="the other store, which stays as it is")
    for action, name in ((check, "check"), (clean, "clean"), (move, "move"), (merge, "merge")):
        _add_store(action)
        action.set_defaults(command=_keeping, action=name)


def _add_compare(commands: Commands[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="compare two systems or attacks on the same examples",
        description="Print the difference in robust accuracy of two choices of cells with its interval, the exact "
        "paired test, and the examples that only one keeps. Each choice is taken at its worst over its attacks.",
    )
    for place in ("first", "second"):
        compare.add_argument(place, metavar=place.upper(), help="a cell's folder, a key or its beginning, or a system")
    compare.add_argument("--threat", default="", metavar="NAME", help="only cells of this threat, such as 'linf 1/10'")
    compare.add_argument("--attack", default="", metavar="NAME", help="only cells of this attack, such as pgd")
    _add_store(compare)
    compare.set_defaults(command=_compare)


def _add_table(commands: Commands[argparse.ArgumentParser]) -> None:
    table = commands.add_parser(
        "table",
        help="print cells as a table: text, CSV, Markdown or LaTeX",
        description="Print a row per cell, with robust and clean accuracy and their 95 % intervals.",
    )
    table.add_argument("choices", nargs="*", metavar="CELLS", help="folders, keys or systems; default: the whole store")
    table.add_argument("--format", default="text", choices=FORMATS, help="default: text")
    _add_store(table)
    table.set_defaults(command=_table)


def _add_verify(commands: Commands[argparse.ArgumentParser]) -> None:
    verify = commands.add_parser(
        "verify",
        help="prove records again from their witnesses, without attacking",
        description="Prove by one forward pass that clean answers and broken examples are as the records say, and that "
        "keys, data, weights, counts, metrics, findings and certificates follow from what they name. Says what stays "
        "open. Ends with 1 if one is not proved.",
    )
    verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    _add_store(verify)
    _add_data(verify)
    verify.add_argument("--distances", action="store_true", help="only what needs no system: measures the candidates")
    verify.add_argument("--again", type=int, default=0, metavar="K", help="attack K examples of each record again")
    verify.add_argument("--seed", type=int, default=0, metavar="N", help="draws what is proved on a sample")
    _add_input(verify)
    verify.set_defaults(command=_verify)


def _add_reproduce(commands: Commands[argparse.ArgumentParser]) -> None:
    reproduce = commands.add_parser(
        "reproduce",
        help="make a recorded cell again, and say what differs",
        description="Train and attack again what a record describes, in a store that is thrown away, and compare "
        "outcomes and witness bit for bit. Ends with 1 if they differ.",
    )
    reproduce.add_argument("record", type=Path, metavar="RECORD", help="a cell's folder, or its record.json")
    _add_store(reproduce)
    _add_data(reproduce)
    _add_input(reproduce)
    reproduce.set_defaults(command=_reproduce)


def _add_transfer(commands: Commands[argparse.ArgumentParser]) -> None:
    transfer = commands.add_parser(
        "transfer",
        help="try the adversarial examples of each system on all others, without attacking",
        description="Ask every system of a store about the witnesses of the others under the same threat, and print "
        "how many fool it. What was measured before is not measured again. The leaderboard shows it.",
    )
    _add_store(transfer)
    _add_data(transfer)
    transfer.set_defaults(command=_transfer)


def _add_leaderboard(commands: Commands[argparse.ArgumentParser]) -> None:
    leaderboard = commands.add_parser(
        "leaderboard",
        help="build the static site from records, review submissions, retract",
        description="Build the static site from records, and keep published results.",
    )
    actions = leaderboard.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = actions.add_parser(
        "build",
        help="records in, pages out",
        description="Build the site, which opens from disk and fetches nothing, from the records below some folders. "
        "The same records give the same bytes.",
    )
    build.add_argument(
        "--results",
        type=Path,
        action="append",
        metavar="PATH",
        help="a folder of cells; may be given again; default: results/cells",
    )
    build.add_argument(
        "--out", type=Path, default=Path("results/leaderboard"), metavar="PATH", help="default: results/leaderboard"
    )
    build.add_argument("--check", action="store_true", help="write nothing; 1 if the site is not what the records give")
    build.add_argument("--single-file", action="store_true", help="one HTML file with everything in it, at --out")
    build.add_argument(
        "--board", default="", metavar="NAME", help="with --single-file: only boards with this in a name"
    )
    build.add_argument(
        "--since", type=Path, action="append", metavar="PATH", help="results of the last release: adds what changed"
    )
    build.set_defaults(command=_leaderboard_build)
    _add_leaderboard_check(actions)
    pack = actions.add_parser(
        "pack",
        help="add cells to published results, in little room",
        description="Add complete cells to the folder of their suite among published results: outcomes as packed bits "
        "with exact distances, witnesses as copies or as links with their sha256. What is there stays as it is.",
    )
    pack.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    pack.add_argument("--into", type=Path, default=Path("leaderboard/results"), metavar="PATH",
                      help="default: leaderboard/results")  # fmt: skip
    pack.add_argument("--link", default="", metavar="URL", help="where the cells are as KEY/FILE: link, do not copy")
    pack.set_defaults(command=_leaderboard_pack)
    retract = actions.add_parser(
        "retract",
        help="take a published cell off its boards, with a reason",
        description="Put a file beside a cell that says why it does not count. Build the site again afterwards.",
    )
    retract.add_argument("cell", type=Path, metavar="CELL", help="the folder of the cell; its files stay")
    retract.add_argument("--reason", required=True, metavar="TEXT", help="why, for everybody to read")
    retract.add_argument("--by", default="", metavar="KEY", help="the cell that supersedes it")
    retract.set_defaults(command=_leaderboard_retract)


def _add_leaderboard_check(actions: Commands[argparse.ArgumentParser]) -> None:
    check = actions.add_parser(
        "check",
        help="review a submission",
        description="Judge a submission as data, prove its witnesses where weights and data are at hand, and print the "
        "review in Markdown. Ends with 1 if it is refused.",
    )
    check.add_argument("submission", type=Path, metavar="PATH", help="a folder or a zip that benchmark submit made")
    check.add_argument("--results", type=Path, action="append", metavar="PATH", help="what is published already")
    check.add_argument("--store", type=Path, metavar="PATH", help="trained systems, beside those that are submitted")
    _add_data(check)
    check.add_argument("--into", type=Path, metavar="PATH", help="add an accepted submission to these results")
    check.set_defaults(command=_leaderboard_check)


def _add_submit(commands: Commands[argparse.ArgumentParser]) -> None:
    submit = commands.add_parser(
        "submit",
        help="pack finished cells for a leaderboard",
        description="Pack complete cells with the cards of their systems, each checked as a reviewer will.",
    )
    submit.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    submit.add_argument("--out", type=Path, required=True, metavar="PATH", help="a folder, or a file ending in .zip")
    submit.add_argument("--name", required=True, metavar="NAME", help="who submits, as the board should say")
    submit.add_argument("--url", default="", metavar="URL", help="a page about it, https only")
    submit.add_argument("--note", default="", metavar="TEXT", help="a word to the reviewers")
    submit.add_argument("--weights", action="store_true", help="pack the weights too, so that anybody can verify")
    _add_store(submit)
    submit.set_defaults(command=_submit)


def _add_examples(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "add-examples",
        help="record adversarial examples of yours against a finished cell",
        description="Judge candidates of yours by the threat of a cell and one forward pass, and record them as a cell "
        "of their own, which benchmark submit packs. One that is not valid or breaks nothing is refused by name.",
    )
    command.add_argument(
        "cell", type=Path, metavar="CELL", help="the folder of the cell; its system must be in the store"
    )
    command.add_argument(
        "--examples", type=Path, required=True, metavar="FILE", help="safetensors: ids (int64), x_adv (float32)"
    )
    _add_store(command)
    _add_data(command)
    command.set_defaults(command=_examples)


def _add_publish(commands: Commands[argparse.ArgumentParser]) -> None:
    publish = commands.add_parser(
        "publish",
        help="tell a tracker of results that were made without it",
        description="Tell a tracker of finished cells and their systems from the records alone: a run for each.",
    )
    publish.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    publish.add_argument("--tracker", required=True, metavar="NAME", help="such as wandb")
    publish.add_argument(
        "--sweep", default="", metavar="NAME", help="what the cells belong to: the group of their runs"
    )
    publish.set_defaults(command=_publish)


def _add_report(commands: Commands[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report",
        help="give a tracker the boards, curves and site of a store",
        description="Make one run of a whole store: a table per board, the curves, and the site as an artifact.",
    )
    _add_store(report)
    report.add_argument("--tracker", default="wandb", metavar="NAME", help="default: wandb")
    report.add_argument("--name", default="report", metavar="NAME", help="of the run; default: report")
    report.set_defaults(command=_report)


# --- commands of other modules ---


def _status(options: argparse.Namespace) -> int:
    if options.plan is not None:
        from benchmark.commands import progress

        return progress.main(options.plan)
    from benchmark.commands import status

    return status.main(
        options.store, as_json=options.json, at_least=options.at_least, old=options.stale, cells=options.cells
    )


def _compare(options: argparse.Namespace) -> int:
    from benchmark.commands import compare

    return compare.main(options.first, options.second, options.store, threat=options.threat, attack=options.attack)


def _table(options: argparse.Namespace) -> int:
    from benchmark.commands import table

    return table.main(options.choices, options.store, options.format)


def _keeping(options: argparse.Namespace) -> int:
    from benchmark.commands import store

    if options.action == "check":
        return store.check_store(options.store)
    if options.action == "clean":
        return store.clean(options.store, failed=options.failed, orphans=options.orphans)
    if options.action == "move":
        return store.move(options.store, options.to)
    return store.merge(options.other, options.store)


def _verify(options: argparse.Namespace) -> int:
    from benchmark.commands import verify

    paths = [str(path) for path in options.paths]
    return verify.main(
        paths,
        str(options.store),
        str(options.data),
        distances=options.distances,
        again=options.again,
        seed=options.seed,
        inputs=options.input or (),
    )


def _reproduce(options: argparse.Namespace) -> int:
    from benchmark.commands import reproduce

    return reproduce.main(options.record, options.store, options.data, inputs=options.input or ())


def _transfer(options: argparse.Namespace) -> int:
    from benchmark.commands import transfer

    return transfer.main(options.store, options.data)


def _leaderboard_build(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import build

    if options.board and not options.single_file:
        raise ConfigError("--board chooses what goes into --single-file; give both, or leave it out")
    results = options.results or [Path("results/cells")]
    missing = [str(path) for path in (*results, *(options.since or ())) if not path.exists()]
    if missing:
        raise RecordError(f"there is no {' and no '.join(missing)}; name folders of cells")
    status: int = build.main(
        results,
        options.out,
        check=options.check,
        single=options.single_file,
        board=options.board,
        since=options.since or (),
    )
    return status


def _leaderboard_check(options: argparse.Namespace) -> int:
    from benchmark_leaderboard.review import check

    status: int = check.main(
        options.submission, options.results or [], store=options.store, data=options.data, into=options.into
    )
    return status


def _leaderboard_pack(options: argparse.Namespace) -> int:
    from benchmark_leaderboard.review import pack

    status: int = pack.main(options.paths, options.into, options.link)
    return status


def _leaderboard_retract(options: argparse.Namespace) -> int:
    from benchmark_leaderboard.cells import retraction

    print(retraction.withdraw(options.cell, options.reason, by=options.by))
    return 0


def _submit(options: argparse.Namespace) -> int:
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


def _report(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import report

    status: int = report.main(options.store, options.tracker, options.name)
    return status


def _examples(options: argparse.Namespace) -> int:
    from benchmark.commands import add_examples

    return add_examples.main(options.cell, options.examples, options.store, options.data)


def _publish(options: argparse.Namespace) -> int:
    from benchmark.commands import publish

    return publish.main(options.paths, options.tracker, options.sweep)


def _new(options: argparse.Namespace) -> int:
    from benchmark.commands.new import write_package

    folder = write_package(options.kind, options.name, options.into)
    print(f"wrote {folder}/")
    print(f"  cd {folder} && pip install -e '.[test]' && pytest")
    print(f"  benchmark plugins check {options.kind}.{options.name}")
    return 0


# --- benchmark run ---


def _run(arguments: list[str]) -> int:
    if "--hydra-help" not in arguments and any(word in ("-h", "--help") for word in arguments):
        from benchmark.commands.help import run_help

        print(run_help())
        return 0
    from benchmark.sweep import app

    return app.main(arguments)


# --- benchmark plan, benchmark work ---


def _plan(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmark plan",
        description="Freeze a sweep in a file, for any number of tasks that run `benchmark work PLAN`. The words are "
        "those of `benchmark run -m`; a word such as quickstart alone is suite=quickstart.",
    )
    parser.add_argument("words", nargs="+", metavar="SUITE | GROUP=CHOICE,... | KEY=VALUE,...")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("plan.jsonl"), metavar="FILE", help="default: plan.jsonl"
    )
    options = parser.parse_args(arguments)
    words = [word if "=" in word else f"suite={word}" for word in options.words if not word.startswith("retry=")]
    from benchmark.sweep import app

    return app.plan(words, options.out)


def _work(options: argparse.Namespace) -> int:
    from benchmark.sweep import app

    return app.work(options.plan)


# --- benchmark plugins ---


def _plugins(options: argparse.Namespace) -> int:
    if options.kind == "check":
        if not options.name:
            raise PluginError("benchmark plugins check needs the name of a plugin, such as attack.pgd")
        return _check(options.name, as_json=options.json)
    from benchmark.commands import plugins

    return plugins.main(options.kind, options.name, as_json=options.json, own=options.config_dir)


def _check(full_name: str, *, as_json: bool) -> int:
    """Run the contract suite on one plugin."""
    from benchmark.testing import contract

    kind, _, name = full_name.partition(".")
    if kind not in registry.KINDS:
        raise PluginError(f"{full_name!r} names no plugin; expected KIND.NAME, such as attack.pgd")
    results = []
    for result in contract.check(kind, name):
        results.append(result)
        if not as_json:
            print(f"{result.status}  {result.rule}" + (f": {result.reason}" if result.reason else ""), flush=True)
    count = {status: sum(r.status == status for r in results) for status in ("pass", "fail", "skip")}
    if as_json:
        print(json.dumps([dataclasses.asdict(r) for r in results], indent=2))
    else:
        print(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped")
    return 1 if count["fail"] else 0
