"""The gate of a release: goals for robust accuracy, decided on intervals, and documents of the decision."""
