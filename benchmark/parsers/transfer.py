"""The options of `benchmark transfer`."""

from __future__ import annotations

import argparse

from benchmark.parsers.options import Commands, add_data_option, add_store_option

__all__ = ["add_transfer"]


def add_transfer(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    transfer = commands.add_parser(
        "transfer",
        help="try the adversarial examples of each system on all others, without attacking",
        description="Ask every system of a store about the witnesses of the others under the same threat, and print "
        "how many fool it. What was measured before is not measured again. The leaderboard shows it.",
    )
    add_store_option(transfer)
    add_data_option(transfer)
    transfer.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import transfer

    return transfer.main(options.store, options.data)
