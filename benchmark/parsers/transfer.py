"""The options of `benchmark transfer`."""

from __future__ import annotations

import argparse

from benchmark.parsers.options import Commands, add_data_option, add_store_option

__all__ = ["add_transfer"]


def add_transfer(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    transfer = commands.add_parser(
        "transfer",
        help="measure how adversarial examples transfer between systems, without attacking",
        description="Classify the witnesses of every system with all others under the same threat, and print how many "
        "fool each. Stored pairs are not measured again. The leaderboard shows the results.",
    )
    add_store_option(transfer)
    add_data_option(transfer)
    transfer.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import transfer

    return transfer.main(options.store, options.data)
