"""The options of `benchmark harden`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.commands.harden import POOLS
from benchmark.parsers.options import Commands, add_folder_option

__all__ = ["add_harden", "overrides_first"]


def add_harden(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    harden = commands.add_parser(
        "harden",
        help="search for defenses until a system reaches a robust accuracy",
        description="Attack a system; while it misses the goal, add the next defense, train, and attack again as "
        "somebody who knows it; keep what helps. Writes the path, a report and the model. What the store has is not "
        "computed again, so an interrupted search goes on. Ends with 1 if the goal is not reached.",
    )
    harden.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for benchmark run: model=small_cnn seed=1")
    harden.add_argument("--at-least", type=float, required=True, metavar="SHARE", help="robust accuracy to reach")
    harden.add_argument("--clean-loss", type=float, default=0.05, metavar="SHARE",
                        help="tolerated loss of clean accuracy; default: 0.05")  # fmt: skip
    harden.add_argument("--protect", action="append", default=[], metavar="'DEFENSE KEY=A|B'",
                        help="a protection to try, with settings, each value in turn; repeat for the next")  # fmt: skip
    harden.add_argument("--attacker", choices=sorted(POOLS), default="white-box", help="default: white-box")
    harden.add_argument("--attack", action="append", default=[], metavar="'ATTACK KEY=VALUE'",
                        help="an attack of the pool, with settings; repeat it for more")  # fmt: skip
    add_folder_option(harden, "folder of your own variants, which --attack and --protect may name")
    harden.add_argument("--examples", type=int, default=200, metavar="N", help="number of test examples; default: 200")
    harden.add_argument("--search-examples", type=int, metavar="N",
                        help="number of them for the search; default: half")  # fmt: skip
    harden.add_argument(
        "--trials", type=int, metavar="N", help="search with Optuna, in N trials of stacks and settings"
    )
    harden.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the search with Optuna; default: 0")
    harden.add_argument("--out", type=Path, default=Path("hardened"), metavar="PATH", help="default: hardened")
    harden.set_defaults(command=_run)


def overrides_first(arguments: list[str]) -> list[str]:
    """Arguments of the command with the overrides moved in front of the options."""
    front: list[str] = []
    rest: list[str] = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        value_of_option = before.startswith("--") and "=" not in before
        (rest if word.startswith("-") or value_of_option else front).append(word)
    return [*front, *rest]


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import harden

    return harden.main(options)
