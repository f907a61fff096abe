"""Patches and programs."""
