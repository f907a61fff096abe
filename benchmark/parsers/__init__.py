"""The options of each command, one file per command: quick to import, as the help needs all of them.

What a command does is in :mod:`benchmark.commands`, and is imported when it is called.
"""
