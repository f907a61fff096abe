"""ending: record fields that describe the run, and the record of a cell that was refused or failed."""

from __future__ import annotations

import traceback
from typing import Any

from benchmark import registry
from benchmark.config.cell import RunConfig
from benchmark.errors import MENDABLE, BenchmarkError, Refused, message_of
from benchmark.records.provenance import provenance
from benchmark.records.record import Record, Status

__all__ = ["ended", "provenance_of", "skeleton"]


def skeleton(config: RunConfig, key: str, status: Status, error: str | None = None, *, unseen: bool = False) -> Record:
    """Record fields of every cell, whatever its status.

    Args:
        unseen: True if no file was read; inputs are then identified by path.
    """
    return config.skeleton(refused=unseen).model_copy(update={"key": key, "status": status, "error": error})


def ended(config: RunConfig, key: str, error: Exception, *, unseen: bool = False) -> Record:
    """Record of a cell that was refused or failed.

    Provenance has the traceback, for the plugin's author, in addition to the error sentence.

    Args:
        unseen: True if no file was read.
    """
    sentence = message_of(error)
    if not isinstance(error, BenchmarkError):
        owner = registry.blamed(error)
        sentence = (
            f"{owner} raised {type(error).__name__}: {sentence}" if owner else f"{type(error).__name__}: {sentence}"
        )
    status: Status = "refused" if isinstance(error, Refused) else "failed"
    more: dict[str, Any] = {} if unseen else {"inputs": config.places()}
    if not (unseen and status == "refused"):
        more["traceback"] = "".join(traceback.format_exception(error))
    more |= {"mendable": True} if isinstance(error, MENDABLE) else {}
    record = skeleton(config, key, status, sentence, unseen=unseen)
    return record.model_copy(update={"provenance": provenance_of(config, **more)})


def provenance_of(config: RunConfig, **more: Any) -> dict[str, Any]:
    """Provenance of a cell: its overrides, trainer, batch size and plugins."""
    return provenance(
        overrides=list(config.overrides),
        trainer=registry.settings(config.trainer),
        batch_size=config.batch_size,
        plugins=[
            {"kind": registry.name_of(part)[0], **registry.distribution_of(part)}
            for part in (
                config.dataset,
                config.model,
                *config.defenses,
                *config.poisons,
                config.attack,
                *config.certifiers,
                *config.metrics,
            )
        ],
        **more,
    )
