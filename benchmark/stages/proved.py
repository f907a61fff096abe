"""The parts of a record that were proved, and those that no record proves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

__all__ = ["OPEN", "Proof"]

OPEN = (
    "that an example on which the attack failed has no adversarial candidate, and that the attack was run as the "
    "record says (--again makes a sample of it again)",
    "of examples on which the attack failed: which candidate it left, so also its confidence, an excess over the "
    "radius, the part of the threat that it left and, under a goal, its label",
    "passes per example, gradients that were zero or not finite, seconds, memory and the passes of what was prepared",
    "certified radii outside of the sample that is made again, and the suite in whose name the cell was run",
    "that no finding is missing about an attack that depends on its batch (--again makes that sample again too)",
    "that the weights came from the training that the card describes, and the history on the card",
    "provenance: when, where and by which code",
)
"""What no record proves by itself."""


@dataclass
class Proof:
    """The parts of a record that were proved.

    broken: witnesses that break their example. clean: clean answers that are as recorded. certified: certificates made
    again. attacked: examples attacked again. notes: what of this record in particular is not proved, and why.
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
