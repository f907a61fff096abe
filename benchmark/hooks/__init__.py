"""Hooks that observe a run, and the events that they are told."""
