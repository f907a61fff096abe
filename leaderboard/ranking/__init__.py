"""Aggregation of cells to boards: worst cases, intervals, ranks, curves."""
