"""Named errors. Each message says what was wrong, what was expected, who owns it and what to do."""

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
    "message_of",
]


def message_of(error: BaseException) -> str:
    """Message of an error, also of one that cannot be asked for it."""
    try:
        return str(error)
    except Exception as second:
        return f"no message: asking for it raised {type(second).__name__}"


class BenchmarkError(Exception):
    """Base class of all errors that the harness raises on purpose."""


class PluginError(BenchmarkError):
    """A plugin is unknown, declared twice, broken, misspelt or made for another version."""


class ConfigError(BenchmarkError, ValueError):
    """A configured value is not valid for its field."""


class MissingPackage(ConfigError):  # noqa: N818 - it names what is wrong
    """A chosen part needs a package that is not installed; the message has the command that installs it."""


class Refused(BenchmarkError):  # noqa: N818 - it names a status, as records do
    """The chosen parts do not fit together: the cell is refused, before loading if possible."""


class DataError(BenchmarkError):
    """A dataset, checkpoint or mask file is missing, or has the wrong checksum or content."""


class AccessError(BenchmarkError):
    """An attack requested access that the threat does not grant."""


class BudgetError(AccessError):
    """An attack made more queries per example than the threat allows."""


class AttackFault(BenchmarkError):  # noqa: N818 - the word for it throughout
    """An attack broke the contract: it modified its inputs, returned a wrong shape, or drew from a global generator."""


class PluginFault(BenchmarkError):  # noqa: N818 - the word for it throughout
    """A plugin left the process changed for other plugins, or tried to end it."""


class SystemFault(BenchmarkError):  # noqa: N818 - the word for it throughout
    """A system broke the contract: it did not return one row of scores per input."""


class StoreError(BenchmarkError):
    """The store cannot be read or written."""


class ProcessDied(BenchmarkError):  # noqa: N818 - it is what happened
    """The process that computed a cell ended before the cell did."""


class RecordError(BenchmarkError):
    """A record, its outcomes or its witness contradict what they claim."""


class Unproved(BenchmarkError):  # noqa: N818 - it names what a record is, as `Refused` does
    """A record cannot be proved here, because a system, data or a plugin is missing; nothing contradicts it."""


MENDABLE = (PluginError, ConfigError, Refused, DataError, StoreError)
"""Errors that the user can correct: a name, a value, a file, parts that do not fit together."""
