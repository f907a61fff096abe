"""JSON Schema of every document that is published, from the models: `python docs/schema/generate.py` writes the files.

A published file of an earlier version is never changed; a new version gets a file of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmark_leaderboard.cells import packed
from benchmark_leaderboard.cells.retraction import Withdrawal
from benchmark_leaderboard.literature.published_numbers import Source
from benchmark_leaderboard.review.parcel import Manifest
from benchmark_leaderboard.review.review import ReviewFile
from pydantic import BaseModel

from benchmark.records.card import Card
from benchmark.records.record import SCHEMA_VERSION, Record

FOLDER = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """The files by name."""
    return {
        f"record-{SCHEMA_VERSION}.json": text(Record, "the record of a cell"),
        f"card-{SCHEMA_VERSION}.json": text(Card, "the card of a trained system"),
        f"packed-{packed.SCHEMA_VERSION}.json": text(packed.Packed, "what stands for the files of a published record"),
        "manifest-1.json": text(Manifest, "the contents of a submission"),
        "review-1.json": text(ReviewFile, "what a review says of a record"),
        "reported-1.json": text(Source, "numbers that were published elsewhere"),
        "withdrawal-1.json": text(Withdrawal, "why a record was retracted or superseded"),
    }


def text(model: type[BaseModel], title: str) -> str:
    """The schema of what is written, with sorted keys."""
    schema = {**model.model_json_schema(mode="serialization"), "$schema": DIALECT, "title": title}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def main() -> int:
    """Write the files."""
    for name, content in schemas().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
