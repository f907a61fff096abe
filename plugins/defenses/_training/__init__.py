"""Shared parts of the defenses that act on training."""
