"""Shared parts of the defenses that project inputs to the training distribution before classification."""
