"""The published JSON Schema is current, accepts what is written, and documents of other versions are migrated."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import RecordError
from benchmark.records import migrations
from benchmark.records.record import Record, read_record
from tests.house.checkout import ROOT
from tests.leaderboard.made_records import made_cell

FOLDER = ROOT / "docs" / "schema"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_cell(tmp_path, clean=[True, True, False], distance=[0.05, 0.2, 0.0])


def rewritten(folder: Path, document: dict[str, Any]) -> Path:
    (folder / "record.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def written(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return document


def test_the_published_schema_is_the_one_of_the_models() -> None:
    made = runpy.run_path(str(FOLDER / "generate.py"))["schemas"]()
    assert set(made) == {path.name for path in FOLDER.glob("*.json")} >= {"record-1.json", "card-1.json"}
    for name, text in made.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, "run: python docs/schema/generate.py"


def test_the_schema_names_what_a_written_record_has(folder: Path) -> None:
    schema = json.loads((FOLDER / "record-1.json").read_text(encoding="utf-8"))
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Record.model_fields)
    assert set(written(folder)) == set(Record.model_fields) - {"task"}, "left out where that is one label"
    assert schema["properties"]["schema_version"]["const"] == 1


def test_a_document_of_an_earlier_version_takes_each_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version -1 had a flat `norm`, and version 0 called the seed `random_state`: made up, but read as a real one."""
    now = read_record(folder)
    old = written(folder)
    old["schema_version"] = -1
    old["random_state"] = old.pop("seed")
    old["norm"] = old["threat"].pop("norm")

    def nested(document: dict[str, Any]) -> dict[str, Any]:
        rest = {k: v for k, v in document.items() if k != "norm"}
        return {**rest, "threat": {**rest["threat"], "norm": document["norm"]}}

    def renamed(document: dict[str, Any]) -> dict[str, Any]:
        rest = {k: v for k, v in document.items() if k != "random_state"}
        return {**rest, "seed": document["random_state"]}

    monkeypatch.setitem(migrations.STEPS, -1, nested)
    monkeypatch.setitem(migrations.STEPS, 0, renamed)
    assert read_record(rewritten(folder, old)) == now


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (2, "it is of schema version 2, and this installation reads up to 1; install a newer version"),
        (0, "it is of schema version 0, which was never published; expected up to 1"),
        ("1.0", "its schema_version is '1.0'; expected a whole number up to 1"),
        (None, "its schema_version is 'None'; expected a whole number up to 1"),
    ],
)
def test_an_unknown_version_is_refused(folder: Path, version: object, sentence: str) -> None:
    document = {**written(folder), "schema_version": version, "unheard_of": 1}
    with pytest.raises(RecordError, match=r"record\.json cannot be read: ") as caught:
        read_record(rewritten(folder, document))
    assert str(caught.value).endswith(sentence)


def test_a_fault_of_a_current_document_is_no_matter_of_versions(folder: Path) -> None:
    with pytest.raises(RecordError, match=r"is not a record of schema version 1: seed: "):
        read_record(rewritten(folder, {**written(folder), "seed": "one"}))
