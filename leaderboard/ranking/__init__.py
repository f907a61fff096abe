"""From cells to boards: worst cases, intervals, ranks, curves."""
