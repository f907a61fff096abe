"""Data of a leaderboard: made by the aggregation, drawn by the site.

Shares are in [0, 1], intervals are 95 %, distances and radii are in units of the [0, 1] input range (for l0: number of
features). Every tuple has a fixed order that depends on the records alone. Text is not escaped: labels, names,
parameters and error messages may come from strangers.
"""

from .board import Board, Leaderboard
from .curves import Curve, CurveSet
from .faults import Alarm, Problem, Unfinished, Withdrawn
from .protocol import ANY_CHANGE, AttackColumn, Conditions, Protocol
from .rates import Measured, Metric, Rate, Spread
from .rows import Ranks, Row, Run, Score, Step
from .standing import AttackStanding, Optimality, Pairs, Resolution

__all__ = [
    "ANY_CHANGE",
    "Alarm",
    "AttackColumn",
    "AttackStanding",
    "Board",
    "Conditions",
    "Curve",
    "CurveSet",
    "Leaderboard",
    "Measured",
    "Metric",
    "Optimality",
    "Pairs",
    "Problem",
    "Protocol",
    "Ranks",
    "Rate",
    "Resolution",
    "Row",
    "Run",
    "Score",
    "Spread",
    "Step",
    "Unfinished",
    "Withdrawn",
]
