"""proof: check the gallery and the findings of a record against its examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import RecordError
from benchmark.records.record import GIVEN, Finding, Record
from benchmark.records.store import Store
from benchmark.stages.replay import (
    Replay,
)

if TYPE_CHECKING:
    from benchmark.records.outcomes import Outcomes

__all__ = ["check_findings", "check_gallery", "check_rechecked"]


def check_gallery(folder: Path, cell: Replay, outcomes: Outcomes, record: Record) -> None:
    """Check that the gallery has the images of the witness."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from benchmark.records.outcomes import GALLERY, WITNESS
    from benchmark.stages.keep import gallery_of

    if GALLERY not in [file.path for file in record.files]:
        return
    made = gallery_of(cell.examples, outcomes, folder / WITNESS)
    try:
        stored = load_file(folder / GALLERY)
    except SafetensorError as error:
        raise RecordError(f"{folder / GALLERY} cannot be read: {error}") from error
    expected = {} if made is None else made.tensors()
    count = len(stored.get("ids", ()))
    if {*stored} != {*expected} or not all(torch.equal(stored[name], expected[name][:count]) for name in expected):
        raise RecordError("the gallery has other images or labels than the witness and the data")


def check_findings(record: Record, cell: Replay, outcomes: Outcomes) -> set[str]:
    """Check that the findings derived from system, data and outcomes are in the record, in the same words.

    Returns:
        The names of the other findings.
    """
    from benchmark.stages.devices import exact_math
    from benchmark.stages.findings import of_cell
    from benchmark.stages.load import leakage_of
    from benchmark.stages.probed import follows_gradients
    from benchmark.stages.probes import of_system

    with exact_math():
        about = of_system(cell.system, cell.examples, gradients=follows_gradients(cell.threat))
    now = of_cell(cell.threat, record.attack, cell.system, cell.card, outcomes, about)
    if record.attack.name == GIVEN:
        return set()  # such a cell has none of its own
    now += leakage_of(cell.splits) if record.harness else []
    _check_said(record, now)
    return {f.name for f in record.findings} - {f.name for f in now}


def check_rechecked(
    record: Record, cell: Replay, outcomes: Outcomes, rest: set[str], store: Store, data: Path
) -> set[str]:
    """Check the finding about an attack that depends on its batch, by attacking its sample again.

    Returns:
        The names of the findings that are still not proved.
    """
    from benchmark.stages.again import recheck_again

    if record.attack.name == GIVEN:
        return rest
    found = recheck_again(record, cell, outcomes, store, data)
    if found is None:
        return rest
    _check_said(record, [found])
    return rest - {found.name}


def _check_said(record: Record, now: Sequence[Finding]) -> None:
    """Check that the record has these findings, in the same words."""
    said = {(f.name, f.severity): f.evidence for f in record.findings}
    for finding in now:
        if (finding.name, finding.severity) not in said:
            raise RecordError(f"the finding {finding.name} ({finding.severity}) is missing: {finding.evidence}")
        if record.harness and said[finding.name, finding.severity] != finding.evidence:
            raise RecordError(f"the finding {finding.name} contradicts the outcomes: {finding.evidence}")
