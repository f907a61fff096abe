"""Shared parts of the defenses that act while weights are trained."""
