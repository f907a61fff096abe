"""Proved parts of a record, and the list of what no record proves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

__all__ = ["OPEN", "Proof"]

OPEN = (
    "that an example on which the attack failed has no adversarial candidate, and that the attack was run as recorded "
    "(--again repeats a sample of it)",
    "of examples on which the attack failed: the candidate, and so its confidence, suspicion, excess over the radius, "
    "violated constraint and, under a goal, its label",
    "passes per example, zero and non-finite gradients, seconds, memory and the passes of the preparation",
    "certified radii outside the recomputed sample, and the suite that the cell was run for",
    "that no finding is missing about an attack that depends on its batch (--again repeats that sample too)",
    "that the weights came from the training that the card describes, and the history on the card",
    "provenance: time, machine and code",
)
"""Claims that a record alone cannot prove."""


@dataclass
class Proof:
    """Proved parts of a record.

    broken: witnesses that break their example. clean: clean answers equal to the recorded ones. certified: recomputed
    certificates. attacked: examples attacked again. notes: what is not proved about this record in particular, and why.
    """

    key: str
    broken: int = 0
    claimed: int = 0
    clean: int = 0
    certified: int = 0
    attacked: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.broken} of {self.claimed} broken examples proved", f"{self.clean} clean answers"]
        parts += [f"{self.certified} certificates"] if self.certified else []
        parts += [f"{self.attacked} examples attacked again"] if self.attacked else []
        return ", ".join(parts) + "".join(f"; not proved: {note}" for note in self.notes)
