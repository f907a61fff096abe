"""Check that a cell on the survivors of earlier cells matches them."""

from __future__ import annotations

from benchmark.records.record import Record

__all__ = ["misfit"]


def misfit(record: Record, earlier: Record) -> str:
    """Reason why a cell cannot run on the survivors of an earlier one, as a sentence; "" if it can.

    Both must be of one system under one threat, on the same examples and under the same seed and suite.
    """
    if earlier.status != "complete" or earlier.counts is None:
        return f"the cell {earlier.key}, whose survivors are requested, is {earlier.status}; expected a complete one"
    fields = {
        "system": (record.system.key, earlier.system.key),
        "threat": (record.threat, earlier.threat),
        "seed": (record.seed, earlier.seed),
        "number of examples": (record.examples, earlier.examples),
        "suite": ((record.suite, record.official), (earlier.suite, earlier.official)),
    }
    if record.examples_sha256:
        fields["example list"] = (record.examples_sha256, earlier.examples_sha256)
        fields["trained system"] = (record.weights_sha256, earlier.weights_sha256)
    other = next((name for name, (mine, its) in fields.items() if mine != its), "")
    return (
        other and f"the cell {earlier.key}, whose survivors are requested, has another {other}; name one with the same"
    )
