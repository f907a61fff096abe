"""Datasets: one method, one paper, one file."""
