"""Observers of a run: one method, one paper, one file."""
