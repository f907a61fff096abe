"""`benchmark table`: cells as a table in the terminal, CSV, Markdown or LaTeX. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.commands.compare import chosen_cells
from benchmark.errors import StoreError
from benchmark.records.store import Store
from benchmark.records.summary import COLUMNS, named_in_order, named_rows
from benchmark.records.tables import table

__all__ = ["main"]


def main(choices: Sequence[str], store: Path, form: str) -> int:
    """Print a row per cell of the selections, or of the whole store; returns 0.

    Raises:
        StoreError: if there is no store. RecordError: if a selection is empty.
    """
    if choices:
        records = [record for choice in choices for record, _ in chosen_cells(choice, store)]
    elif store.is_dir():
        records = Store(store).records()
    else:
        raise StoreError(f"there is no folder {store}; name the store with --store, as store.root named it")
    unique = named_in_order(list({record.key: record for record in records}.values()))
    sys.stdout.write(table(COLUMNS, named_rows(unique), form) + "\n")
    return 0
