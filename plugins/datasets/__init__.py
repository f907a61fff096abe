"""Datasets: one dataset, one source, one file."""
