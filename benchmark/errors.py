"""Errors by name. Each message says what was wrong, what was expected, who owns it and what to do."""

__all__ = [
    "MENDABLE",
    "AccessError",
    "AttackFault",
    "BenchmarkError",
    "BudgetError",
    "ConfigError",
    "DataError",
    "MissingPackage",
    "PluginError",
    "PluginFault",
    "ProcessDied",
    "RecordError",
    "Refused",
    "StoreError",
    "SystemFault",
    "Unproved",
]


class BenchmarkError(Exception):
    """The root of all errors that the harness raises on purpose."""


class PluginError(BenchmarkError):
    """A plugin is unknown, declared twice, broken, misspelt or made for another version."""


class ConfigError(BenchmarkError, ValueError):
    """A configured value is not one that the field can take."""


class MissingPackage(ConfigError):  # noqa: N818 - it names what is wrong
    """A chosen part needs a package that is not installed; the sentence has the line that installs it."""


class Refused(BenchmarkError):  # noqa: N818 - it names a status, as records do
    """The chosen parts do not fit together: the cell is refused, before anything is loaded where that can be known."""


class DataError(BenchmarkError):
    """A dataset, checkpoint or mask file is missing, has the wrong checksum or the wrong content."""


class AccessError(BenchmarkError):
    """An attack asked for something that the threat does not give it."""


class BudgetError(AccessError):
    """An attack asked for more queries per example than the threat allows."""


class AttackFault(BenchmarkError):  # noqa: N818 - the word for it throughout
    """An attack broke the contract: it changed its inputs, gave a wrong shape, or drew from a global generator."""


class PluginFault(BenchmarkError):  # noqa: N818 - the word for it throughout
    """A plugin left the process changed for the plugins beside it, or asked for its end."""


class SystemFault(BenchmarkError):  # noqa: N818 - the word for it throughout
    """A system broke the contract: it answered something else than one row of scores per input."""


class StoreError(BenchmarkError):
    """The store cannot be read or written."""


class ProcessDied(BenchmarkError):  # noqa: N818 - it is what happened
    """The process that worked on a cell ended before it did."""


class RecordError(BenchmarkError):
    """A record, its outcomes or its witness is not what it claims to be."""


class Unproved(BenchmarkError):  # noqa: N818 - it names what a record is, as `Refused` does
    """A record cannot be proved here, for want of a system, of data or of a plugin; nothing speaks against it."""


MENDABLE = (PluginError, ConfigError, Refused, DataError, StoreError)
"""Errors by what the user can mend: a name, a value, a file, parts that do not fit."""
