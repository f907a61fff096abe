"""The command line: `benchmark run`, `plugins`, `new`, `status`, `verify`, `transfer`, `leaderboard`, and the like.

Everything that is slow to import is imported by the command that needs it: help, listings and records load no torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import __version__, registry
from benchmark.errors import BenchmarkError, PluginError

if TYPE_CHECKING:
    from benchmark.catalogue import Description

__all__ = ["main"]

EPILOG = """\
examples:
  benchmark run attack=pgd threat=linf_8_255
  benchmark run -m attack=fgsm,pgd 'defense=[],[adversarial_training]' seed=0,1,2
  benchmark plugins attack
  benchmark plugins check attack.pgd
  benchmark new attack acme
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 where something failed, 2 for what the user can mend, 130 if interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except BenchmarkError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("benchmark: interrupted; the same command goes on where it stopped\n")
        return 130


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-sc", "--shell-completion"):
        from benchmark import hydra_app

        return hydra_app.complete(arguments)
    if arguments and arguments[0] == "run":
        return _run(arguments[1:])
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
    _add_plugins(commands)
    _add_new(commands)
    _add_status(commands)
    _add_verify(commands)
    _add_transfer(commands)
    _add_leaderboard(commands)
    _add_submit(commands)
    _add_lower(commands)
    _add_publish(commands)
    _add_report(commands)
    return parser


Commands = argparse._SubParsersAction


def _add_plugins(commands: Commands[argparse.ArgumentParser]) -> None:
    plugins = commands.add_parser(
        "plugins",
        help="list what is installed, or check one plugin",
        description="List the installed plugins, or run the contract suite on one: benchmark plugins check attack.pgd",
    )
    plugins.add_argument(
        "kind", nargs="?", metavar="KIND | check", help=f"one of {', '.join(registry.KINDS)}, or check"
    )
    plugins.add_argument("name", nargs="?", metavar="NAME", help="after check: the plugin, such as attack.pgd")
    plugins.add_argument("--json", action="store_true", help="print JSON")
    plugins.set_defaults(command=_plugins)


def _add_new(commands: Commands[argparse.ArgumentParser]) -> None:
    new = commands.add_parser(
        "new",
        help="write a plugin package of your own",
        description="Write a complete package with one working plugin, its test and a README.",
    )
    new.add_argument("kind", metavar="KIND", choices=registry.KINDS, help=f"one of {', '.join(registry.KINDS)}")
    new.add_argument("name", metavar="NAME", help="lower case, such as acme; the plugin is then KIND=NAME")
    new.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="where the package's folder goes")
    new.set_defaults(command=_new)


def _add_status(commands: Commands[argparse.ArgumentParser]) -> None:
    status = commands.add_parser("status", help="show the matrix of a store: done, missing, failed, refused")
    status.add_argument("--store", type=Path, default=Path("results"), metavar="PATH", help="default: results")
    status.set_defaults(command=_status)


def _add_verify(commands: Commands[argparse.ArgumentParser]) -> None:
    verify = commands.add_parser("verify", help="prove records again from their witnesses, without attacking")
    verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    verify.add_argument("--store", type=Path, default=Path("results"), metavar="PATH", help="default: results")
    verify.add_argument("--data", type=Path, default=Path("data"), metavar="PATH", help="default: data")
    verify.add_argument("--distances", action="store_true", help="only measure the candidates; needs no weights")
    verify.set_defaults(command=_verify)


def _add_transfer(commands: Commands[argparse.ArgumentParser]) -> None:
    transfer = commands.add_parser(
        "transfer",
        help="try the adversarial examples of each system on all others, without attacking",
        description="Ask every system of a store about the witnesses of the others under the same threat, and print "
        "how many fool it. What was measured before is not measured again. The leaderboard shows it.",
    )
    transfer.add_argument(
        "store", nargs="?", type=Path, default=Path("results"), metavar="STORE", help="default: results"
    )
    transfer.add_argument("--data", type=Path, default=Path("data"), metavar="PATH", help="default: data")
    transfer.set_defaults(command=_transfer)


def _add_leaderboard(commands: Commands[argparse.ArgumentParser]) -> None:
    leaderboard = commands.add_parser("leaderboard", help="build the static site from records")
    actions = leaderboard.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = actions.add_parser("build", help="records in, pages out")
    build.add_argument(
        "--results", type=Path, action="append", metavar="PATH", help="may be given again; default: results/cells"
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
    retract = actions.add_parser("retract", help="take a published cell off its boards, with a reason")
    retract.add_argument("cell", type=Path, metavar="PATH", help="the folder of the cell; its files stay")
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
    check.add_argument("--data", type=Path, default=Path("data"), metavar="PATH", help="default: data")
    check.add_argument("--into", type=Path, metavar="PATH", help="add an accepted submission to these results")
    check.set_defaults(command=_leaderboard_check)


def _add_submit(commands: Commands[argparse.ArgumentParser]) -> None:
    submit = commands.add_parser("submit", help="pack finished cells for a leaderboard")
    submit.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    submit.add_argument("--out", type=Path, required=True, metavar="PATH", help="a folder, or a file ending in .zip")
    submit.add_argument("--name", required=True, help="who submits, as the board should say")
    submit.add_argument("--url", default="", help="a page about it, https only")
    submit.add_argument("--note", default="", help="a word to the reviewers")
    submit.add_argument("--weights", action="store_true", help="pack the weights too, so that anybody can verify")
    submit.add_argument("--store", type=Path, default=Path("results"), metavar="PATH", help="default: results")
    submit.set_defaults(command=_submit)


def _add_lower(commands: Commands[argparse.ArgumentParser]) -> None:
    lower = commands.add_parser("lower", help="record adversarial examples of yours against a finished cell")
    lower.add_argument(
        "cell", type=Path, metavar="CELL", help="the folder of the cell; its system must be in the store"
    )
    lower.add_argument("--examples", type=Path, required=True, metavar="FILE", help="safetensors with ids and x_adv")
    lower.add_argument("--store", type=Path, default=Path("results"), metavar="PATH", help="default: results")
    lower.add_argument("--data", type=Path, default=Path("data"), metavar="PATH", help="default: data")
    lower.set_defaults(command=_lower)


def _add_publish(commands: Commands[argparse.ArgumentParser]) -> None:
    publish = commands.add_parser("publish", help="tell a tracker of results that were made without it")
    publish.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    publish.add_argument("--tracker", required=True, metavar="NAME", help="such as wandb")
    publish.add_argument(
        "--sweep", default="", metavar="NAME", help="what the cells belong to: the group of their runs"
    )
    publish.set_defaults(command=_publish)


def _add_report(commands: Commands[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="give a tracker the boards, curves and site of a sweep")
    report.add_argument("--store", type=Path, default=Path("results"), metavar="PATH", help="default: results")
    report.add_argument("--tracker", default="wandb", metavar="NAME", help="default: wandb")
    report.add_argument("--name", default="report", help="of the run, for people")
    report.set_defaults(command=_report)


# --- commands of other modules ---


def _status(options: argparse.Namespace) -> int:
    from benchmark import status

    return status.main(str(options.store))


def _verify(options: argparse.Namespace) -> int:
    from benchmark import verify_records

    paths = [str(path) for path in options.paths]
    return verify_records.main(paths, str(options.store), str(options.data), distances=options.distances)


def _transfer(options: argparse.Namespace) -> int:
    from benchmark import transfer

    return transfer.main(options.store, options.data)


def _leaderboard_build(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import build

    results = options.results or [Path("results/cells")]
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
    from benchmark_leaderboard import check

    status: int = check.main(
        options.submission, options.results or [], store=options.store, data=options.data, into=options.into
    )
    return status


def _leaderboard_pack(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import pack

    status: int = pack.main(options.paths, options.into, options.link)
    return status


def _leaderboard_retract(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import retraction

    print(retraction.withdraw(options.cell, options.reason, by=options.by))
    return 0


def _submit(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import submission

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


def _lower(options: argparse.Namespace) -> int:
    from benchmark import given

    return given.main(options.cell, options.examples, options.store, options.data)


def _publish(options: argparse.Namespace) -> int:
    from benchmark import republish

    return republish.main(options.paths, options.tracker, options.sweep)


def _new(options: argparse.Namespace) -> int:
    from benchmark.scaffold import write_package

    folder = write_package(options.kind, options.name, options.into)
    print(f"wrote {folder}/")
    print(f"  cd {folder} && pip install -e . && pytest")
    print(f"  benchmark plugins check {options.kind}.{options.name}")
    return 0


# --- benchmark run ---


def _run(arguments: list[str]) -> int:
    if "--hydra-help" not in arguments and any(word in ("-h", "--help") for word in arguments):
        print(_run_help())
        return 0
    from benchmark import hydra_app

    return hydra_app.main(arguments)


def _variants(group: str) -> list[str]:
    """The named settings of a group: the files of conf/GROUP/."""
    import importlib.resources

    folder = importlib.resources.files("benchmark.conf").joinpath(group)
    if not folder.is_dir():
        return []
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def _groups() -> list[tuple[str, list[str]]]:
    """Every config group with its choices: plugins and named settings."""
    import importlib.resources

    folders = [f.name for f in importlib.resources.files("benchmark.conf").iterdir() if f.is_dir()]
    own = sorted(set(folders) - set(registry.KINDS) - {"__pycache__", "hydra"})
    return [(group, sorted({*registry.names(group), *_variants(group)})) for group in (*registry.KINDS, *own)]


def _run_help() -> str:
    width = max(60, min(120, shutil.get_terminal_size().columns))
    lines = [
        "usage: benchmark run [-m] [GROUP=CHOICE | KEY=VALUE]...",
        "",
        "Run one cell (dataset, model, defenses, attack, threat, seed), or with -m the whole matrix of the choices",
        "that are separated by commas. What is recorded already is not computed again.",
        "",
        "groups (those marked * take an ordered list: 'defense=[label_smoothing,jpeg]', or [] for none):",
    ]
    for group, choices in _groups():
        label = f"  {group + ('*' if group in registry.LISTS else ''):<12}"
        text = ", ".join(choices) or "(none installed)"
        lines += textwrap.wrap(text, width, initial_indent=label, subsequent_indent=" " * len(label))
    lines += [
        "",
        "keys that are often set:",
        "  seed=0 examples=500 batch_size=256      which cell, how many test examples, how many at a time",
        "  threat.norm=linf threat.eps=8/255       the ball; also threat.access, .queries, .goal, .aware, .region",
        "  attack.steps=100                        any parameter of the chosen plugins",
        "  defense.jpeg.quality=50                 of a plugin in a list: by its name",
        "  training.epochs=20 trainer=gpu          the recipe, and the machine",
        "  system.init_from=KEY                    train on from a trained system",
        "  retry=failed                            compute failed cells again",
        "  store.root=results store.data=data      where results and data files are",
        "",
        "examples:",
        "  benchmark run attack=pgd threat=linf_8_255",
        "  benchmark run -m attack=fgsm,pgd 'defense=[],[adversarial_training]' seed=0,1,2",
        "  benchmark run -m suite=quickstart",
        "  benchmark run -m hydra/launcher=joblib hydra.launcher.n_jobs=4 attack=fgsm,pgd seed=0,1",
        "",
        "more:",
        "  benchmark run --cfg job [...]           print the composed configuration instead of running it",
        "  benchmark run --hydra-help              Hydra's own flags",
        '  eval "$(benchmark -sc install=bash)"    shell completion (also zsh, fish)',
    ]
    return "\n".join(lines)


# --- benchmark plugins ---


def _plugins(options: argparse.Namespace) -> int:
    if options.kind == "check":
        if not options.name:
            raise PluginError("benchmark plugins check needs the name of a plugin, such as attack.pgd")
        return _check(options.name, as_json=options.json)
    if options.kind is not None and options.kind not in registry.KINDS:
        raise PluginError(
            f"{options.kind!r} is no kind of plugin; expected one of {', '.join(registry.KINDS)}, or check"
        )
    if options.name:
        raise PluginError(f"unexpected {options.name!r}; to check a plugin: benchmark plugins check {options.name}")
    from benchmark.catalogue import catalogue

    found = catalogue(options.kind)
    if options.json:
        print(json.dumps([_plain(d) for d in found], indent=2))
    else:
        print(_table(found))
    return 0


def _plain(description: Description) -> dict[str, object]:
    """A description as JSON."""
    declared = description.declared
    return {
        "kind": declared.kind,
        "name": declared.name,
        "distribution": declared.distribution,
        "version": declared.version,
        "module": declared.module,
        "summary": description.summary,
        "paper": description.paper,
        "supports": description.supports,
        "flags": description.flags,
        "fields": json.loads(json.dumps(description.fields, default=str)),
        "problem": description.problem,
    }


def _abilities(description: Description) -> str:
    """What it supports, in a few words."""
    can = description.supports
    if can:
        words = [*can["norms"], str(can["access"])]
        words += [flag for flag in ("targeted", "minimal", "randomized") if can.get(flag)]
        if not can.get("bounded", True):
            words.append("unbounded")
        return " ".join(words)
    words = [name for name in ("randomized", "detects") if description.flags.get(name)]
    if description.declared.kind == "defense" and not description.flags.get("differentiable", True):
        words.append("not differentiable")
    return ", ".join(words)


def _table(found: Sequence[Description]) -> str:
    """Plugins by kind, each in one line, and what is wrong with those that cannot be loaded."""
    sound = [d for d in found if not d.problem]
    lines: list[str] = []
    rows = [(d.declared.name, d.declared.owner, _abilities(d), d.paper or d.summary) for d in sound]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(3)]
    room = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 0
    for kind in dict.fromkeys(d.declared.kind for d in sound):
        members = [row for d, row in zip(sound, rows, strict=True) if d.declared.kind == kind]
        lines.append(f"{kind} ({len(members)})")
        for row in members:
            line = "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
            lines.append((line if not room or len(line) <= room else line[: room - 3] + "...").rstrip())
        lines.append("")
    broken = list(dict.fromkeys(d.problem for d in found if d.problem))
    if broken:
        lines += [f"cannot be used ({len(broken)})", *(f"  {problem}" for problem in broken), ""]
    lines.append(
        f"{len(sound)} plugins can be used, {len(broken)} cannot. Check one: benchmark plugins check KIND.NAME"
    )
    return "\n".join(lines)


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
