"""Piecewise linear computations: read from a system, checked against it, and bounded."""
