"""Shared parts of the defenses that transform inputs before classification."""
