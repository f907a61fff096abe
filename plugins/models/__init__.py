"""Architectures: one method, one paper, one file."""
