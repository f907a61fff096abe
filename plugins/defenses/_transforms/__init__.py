"""Shared parts of the defenses that transform an input before it is classified."""
