"""What cells say together: worst cases, intervals, ranks, curves."""
