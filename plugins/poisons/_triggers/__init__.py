"""Shared parts of poisons: the choice of rows, refused settings, and stamping a trigger on rows."""
