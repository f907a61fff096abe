"""Shared parts of the defenses that put an input back to where training examples lie before it is classified."""
