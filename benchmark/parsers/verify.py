"""The options of `benchmark verify`."""

from __future__ import annotations

import argparse

from benchmark.parsers.options import Commands, add_data_option, add_input_option, add_store_option

__all__ = ["add_verify"]


def add_verify(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    verify = commands.add_parser(
        "verify",
        help="verify records from their witnesses, without attacking",
        description="Prove by one forward pass that clean answers and broken examples are as the records say, and that "
        "keys, data, weights, counts, metrics, findings and certificates follow from what they name. Prints what "
        "remains unproved. Ends with 1 if one is not proved.",
    )
    verify.add_argument("paths", nargs="+", metavar="PATH|URL", help="cells, or folders of cells")
    add_store_option(verify, urls=True)
    add_data_option(verify)
    verify.add_argument(
        "--distances", action="store_true", help="check only what needs no system: measure the candidates"
    )
    verify.add_argument("--again", type=int, default=0, metavar="K", help="attack K examples of each record again")
    verify.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the samples that are checked")
    add_input_option(verify)
    verify.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import verify
    from benchmark.records.remote import fetched

    return verify.main(
        [str(fetched(path)) for path in options.paths],
        str(fetched(options.store, systems=True)),
        str(options.data),
        distances=options.distances,
        again=options.again,
        seed=options.seed,
        inputs=options.input or (),
    )
