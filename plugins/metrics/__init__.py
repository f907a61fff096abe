"""Measurements over verified outcomes: one method, one paper, one file."""
