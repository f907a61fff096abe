"""Options of the commands, one file per command; quick to import, because the help needs them all.

The commands themselves are in :mod:`benchmark.commands`, and are imported when called.
"""
