"""Shared parts of poisons: selection of rows, checks of settings, and application of a trigger to rows."""
