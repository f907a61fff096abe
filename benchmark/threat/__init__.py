"""The threat model: norm, exact radius, region, goal, access, awareness and budget. Importing it imports no torch."""

from benchmark.threat.kinds import Access, Goal, Norm, Region, RegionKind
from benchmark.threat.radius import label_of_eps, parse_eps, tolerance
from benchmark.threat.threat import Threat

__all__ = ["Access", "Goal", "Norm", "Region", "RegionKind", "Threat", "label_of_eps", "parse_eps", "tolerance"]
