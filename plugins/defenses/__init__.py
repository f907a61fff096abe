"""Defenses: one method, one paper, one file."""
