"""A trained system, and an attacker's view of it."""

from benchmark.system.gradients import clipped, straight_through
from benchmark.system.rows import PASS_ROWS, padded
from benchmark.system.system import (
    NO_ANSWER,
    REJECTED,
    Detector,
    System,
    gradients_recorded,
    padded_random,
    records_gradients,
)

__all__ = [
    "NO_ANSWER",
    "PASS_ROWS",
    "REJECTED",
    "Detector",
    "System",
    "clipped",
    "gradients_recorded",
    "padded",
    "padded_random",
    "records_gradients",
    "straight_through",
]
