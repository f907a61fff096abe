"""Types of the columns of outcomes, by name, as safetensors calls them. Importing it imports no torch."""

from __future__ import annotations

from benchmark.threat import Norm

__all__ = ["COLUMN_TYPES"]

_WHOLE = ("ids", "y", "clean_label", "adv_label", "clean_predicted", "adv_predicted", "forwards", "backwards",
          "certified_rows", "triggered", "aimed")  # fmt: skip
_TRUTH = ("clean_correct", "clean_top5", "attacked", "valid", "adversarial", "broken", "robust_top5", "zero_gradient",
          "bad_gradient", "reached")  # fmt: skip
_SINGLE = (
    *sorted(norm.value for norm in Norm),
    "excess",
    "certified",
    "confidence",
    "clean_suspicion",
    "adv_suspicion",
)
_SITES = ("sites", "clean_sites", "adv_sites")

COLUMN_TYPES = {
    **dict.fromkeys(_WHOLE, "I64"),
    **dict.fromkeys(_TRUTH, "BOOL"),
    **dict.fromkeys(_SINGLE, "F32"),
    **dict.fromkeys(_SITES, "I16"),
}
"""One entry for each field of :class:`benchmark.records.outcomes.Outcomes`."""
