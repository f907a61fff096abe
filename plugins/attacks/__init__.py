"""Evasion attacks: one method, one paper, one file."""
