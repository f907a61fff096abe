"""Certified lower bounds: one method, one paper, one file."""
