"""Hooks for observers of a run, and the events passed to them."""
