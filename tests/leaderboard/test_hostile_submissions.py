"""Every kind of bad submission is refused with one sentence that names the fault, and nothing else is touched."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.review.check import main

from tests.leaderboard.made_records import made_cell
from tests.leaderboard.made_submission import CLEAN, FAR, Spoiler, made_submission
from tests.leaderboard.spoils import KINDS, OUTCOMES, SCRIPT, WITNESS, Spoil, set_in


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content; links and pipes are not followed."""
    plain = {path: path.is_file() and not path.is_symlink() for path in folder.rglob("*")}
    return {str(path): path.read_bytes() if is_file else None for path, is_file in plain.items()}


def refusal(path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of the review; fails if anything on disk changed."""
    results = root / "published"
    before = listing(root)
    assert main(path, [results], store=None, data=root / "data", into=root / "into") == 1
    assert listing(root) == before, "a check must touch nothing"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## Refused"
    (sentence,) = [line for line in lines if line.startswith("- ")]
    assert "<script" not in sentence or sentence.startswith("- `")
    return sentence


@pytest.mark.parametrize(("spoil", "expected"), KINDS.values(), ids=KINDS)
def test_a_hostile_submission_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Spoil,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    spoil(spoiler)
    assert expected in refusal(tmp_path / "parcel", tmp_path, capsys)


def zipped(root: Path, change: Callable[[zipfile.ZipFile], object]) -> Path:
    """A sound zip to which something was added."""
    path = made_submission(root / "store", root / "parcel.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        change(archive)
    return path


def link_member(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo(f"cells/{'a' * 24}/record.json")
    member.external_attr = 0o120777 << 16
    archive.writestr(member, "/etc/passwd")


def bomb(archive: zipfile.ZipFile) -> None:
    for at in range(8):
        archive.writestr(f"cells/{at:024x}/{OUTCOMES}", b"\0" * (16 << 20))


def many(archive: zipfile.ZipFile) -> None:
    for at in range(10_001):
        archive.writestr(f"cells/{at:024x}/record.json", "")


def twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("manifest.json", "{}")


def encrypted(archive: zipfile.ZipFile) -> None:
    """The second member says that it is encrypted, in the directory at the end."""
    archive.infolist()[1].flag_bits |= 1
    archive._didModify = True  # type: ignore[attr-defined]  # so that the directory is written again


ZIPS: dict[str, tuple[Callable[[zipfile.ZipFile], object], str]] = {
    "path traversal": (lambda z: z.writestr("../../evil.json", "{}"), "'../../evil.json' is not a valid path in a "
    "submission"),
    "absolute path": (lambda z: z.writestr("/etc/cron.d/evil", "x"), "is not a valid path in a submission"),
    "backslashes": (lambda z: z.writestr("cells\\..\\..\\evil", "x"), "is not a valid path in a submission"),
    "folder elsewhere": (lambda z: z.writestr("../evil/", ""), "'../evil/' is not a valid path in a submission"),
    "link": (link_member, "is a link or a special file; expected plain files"),
    "bomb": (bomb, "more than 200 times its own size"),
    "many files": (many, "it has 10006 files"),
    "one name twice": (twice, "has two files of one name"),
    "encrypted": (encrypted, "is encrypted; expected plain files"),
    "executable": (lambda z: z.writestr("run.sh", "rm -rf /"), "'run.sh' is not a valid path in a submission"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), ZIPS.values(), ids=ZIPS)
def test_a_hostile_zip_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[zipfile.ZipFile], object],
    expected: str,
) -> None:
    assert expected in refusal(zipped(tmp_path, change), tmp_path, capsys)


def lying_size(raw: bytes) -> bytes:
    """The first member claims, in both headers, to be shorter than it unpacks to."""
    size = struct.pack("<I", len(b""))
    local = raw.index(b"PK\x03\x04") + 22
    central = raw.index(b"PK\x01\x02") + 24
    return raw[:local] + size + raw[local + 4 : central] + size + raw[central + 4 :]


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (lambda raw: raw[: len(raw) // 2], "cannot be unpacked"),
    "no archive": (lambda raw: b"#!/bin/sh\nrm -rf /\n", "cannot be unpacked"),
    "empty": (lambda raw: b"", "cannot be unpacked"),
    "damaged": (lambda raw: raw[:80] + bytes([raw[80] ^ 255]) + raw[81:], "cannot be unpacked"),
    "a size that lies": (lying_size, "parcel.zip"),
}


@pytest.mark.parametrize(("change", "expected"), BYTES.values(), ids=BYTES)
def test_a_damaged_archive_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], expected: str
) -> None:
    path = made_submission(tmp_path / "store", tmp_path / "parcel.zip")
    path.write_bytes(change(path.read_bytes()))
    found = refusal(path, tmp_path, capsys)
    assert expected in found or "manifest.json" in found


def test_something_that_is_no_submission_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("link", "missing"):
        assert f"{name} is not a submission; expected a folder or a zip file" in refusal(
            tmp_path / name, tmp_path, capsys
        )


def test_cells_of_a_suite_must_share_its_example_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark_leaderboard.review.check.required_attacks", lambda suite: frozenset({"fmn"}))
    made_cell(
        tmp_path / "published", clean=CLEAN, distance=FAR, minimal=True, model="other", examples="x", dataset="made_up"
    )
    made_submission(tmp_path / "store", tmp_path / "parcel", official=True)
    said = refusal(tmp_path / "parcel", tmp_path, capsys)
    assert "was made on another example list than the other cells of the suite" in said
    made_submission(tmp_path / "store", tmp_path / "revised", official=True, dataset_revision="r2")
    said = refusal(tmp_path / "revised", tmp_path, capsys)
    assert "was made on another revision of made_up than the published cells of the suite" in said


def test_there_are_at_least_forty_kinds() -> None:
    assert len(KINDS) + len(ZIPS) + len(BYTES) >= 100


def places(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every text in a JSON document."""
    if isinstance(document, str):
        return [path]
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [found for key, value in items for found in places(value, (*path, key))]


def test_a_script_or_a_formula_in_any_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finding = {"name": "some_finding", "severity": "info", "evidence": "none"}
    metric = {"name": "m", "value": 0.5, "low": None, "high": None, "unit": "share", "higher_is_better": True}
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    spoiler.record(lambda d: d.update(findings=[finding], metrics=[metric], error="none"))
    spoiler.card(lambda d: d.update(warnings=["one"]))
    assert main(tmp_path / "parcel", [], store=None, data=tmp_path, into=None) == 0
    capsys.readouterr()
    tried = 0
    for path, change in (
        (spoiler.cell / "record.json", spoiler.record),
        (spoiler.system / "card.json", spoiler.card),
        (tmp_path / "parcel" / "manifest.json", spoiler.manifest),
    ):
        kept = path.read_bytes()
        for place in places(json.loads(kept)):
            for text in (f"x{SCRIPT}", "=1+1"):
                change(set_in(*place, to=text))
                refusal(tmp_path / "parcel", tmp_path, capsys)
                path.write_bytes(kept)
                spoiler.seal_manifest()
                tried += 1
    assert tried > 100


@pytest.mark.parametrize("name", ["record.json", OUTCOMES, WITNESS, "card.json", "manifest.json"])
def test_random_damage_is_refused_or_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Whatever byte is changed, and however well the hashes are forged, the check ends with a review."""
    spoiler = Spoiler(made_submission(tmp_path / "store", tmp_path / "parcel"))
    (path,) = (tmp_path / "parcel").rglob(name)
    kept = {file: file.read_bytes() for file in (tmp_path / "parcel").rglob("*") if file.is_file()}
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        raw = bytearray(kept[path])
        for _ in range(rng.integers(1, 4)):
            raw[rng.integers(0, len(raw))] = rng.integers(0, 256)
        path.write_bytes(bytes(raw))
        if name.endswith("safetensors"):
            spoiler.seal()
        elif name != "manifest.json":
            spoiler.seal_manifest()
        refused += main(tmp_path / "parcel", [], store=None, data=tmp_path, into=None)
        for file, content in kept.items():
            file.write_bytes(content)
    assert capsys.readouterr().out.count("## Refused") == refused
    assert refused >= (5 if name == WITNESS else 30)
