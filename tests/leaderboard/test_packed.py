"""Published results: less room, the same site to the byte, and nothing that drifts unseen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells import packed
from benchmark_leaderboard.cells.evidence import read_evidence
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.cells.retraction import withdraw
from benchmark_leaderboard.review.pack import pack
from safetensors.numpy import load_file, save_file

from benchmark.cli import main as cli
from benchmark.errors import RecordError
from tests.leaderboard.made_records import made_cell, made_store

URL = "https://example.org/cells"
N = 10_000


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """A published cell of eleven examples: packed bits that do not fill their last byte."""
    made_cell(tmp_path, clean=[True] * 9 + [False] * 2, distance=[0.05, 0.2, *[np.inf] * 9], certified=[0.01] * 11)
    made: list[Path] = pack([tmp_path / "cells"], tmp_path / "published", link=URL)
    return made[0]


def test_a_packed_store_gives_the_same_site_to_the_byte(tmp_path: Path) -> None:
    made_store(tmp_path, systems=4, attacks=4, examples=61, seeds=2)
    made_cell(tmp_path, clean=[True] * 61, distance=[np.inf] * 61, certified=np.linspace(0, 0.2, 61), model="proved")
    pack([tmp_path / "cells"], tmp_path / "published")
    assert not list((tmp_path / "published").rglob("outcomes.safetensors"))
    sites = [build([tmp_path / name], tmp_path / f"site-{name}").parent for name in ("cells", "published")]
    files = [{p.relative_to(site): p.read_bytes() for p in site.rglob("*") if p.is_file()} for site in sites]
    assert files[0] == files[1]
    assert len(files[0]) > 50


def test_ten_thousand_examples_take_a_byte_for_eight(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    distance = np.where(rng.random(N) < 0.3, rng.random(N) * 0.1, np.inf)
    made_cell(tmp_path, clean=rng.random(N) < 0.9, distance=distance)
    (made,) = pack([tmp_path / "cells"], tmp_path / "published", link=URL)
    arrays = load_file(made / packed.ARRAYS)
    assert {name: arrays[name].nbytes for name in packed.BITS} == dict.fromkeys(packed.BITS, 1250)
    (one,), _ = read([tmp_path / "published"], files=True)
    evidence = read_evidence(one)
    broken = int(evidence.broken.sum())
    assert 0 < broken < 0.3 * N
    size = (made / packed.ARRAYS).stat().st_size
    assert 9 * 1250 + 4 * broken < size < 9 * 1250 + 4 * broken + 1500, "and a header"
    examples = load_file(made.parent / packed.examples_name(one.record))
    assert examples["ids"].tolist() == list(range(1000, 1000 + N))


def test_files_that_are_linked_keep_their_address_size_and_hash(cell: Path) -> None:
    (one,), problems = read([cell.parent], files=True)
    assert not problems
    document = packed.read_document(cell)
    assert document is not None
    said = {link.path: (link.bytes, link.sha256) for link in document.links}
    assert said == {file.path: (file.bytes, file.sha256) for file in one.record.files}
    assert {link.url for link in document.links} == {f"{URL}/{cell.name}/{name}" for name in said}
    assert sorted(p.name for p in cell.iterdir()) == ["packed.json", "packed.safetensors", "record.json"]


def test_without_a_link_the_witness_comes_along_and_so_does_what_was_said(tmp_path: Path) -> None:
    source = made_cell(tmp_path, clean=[True] * 4, distance=[0.05] * 4)
    withdraw(source, "trained on the test split")
    (made,) = pack([tmp_path / "cells"], tmp_path / "published")
    assert (made / "witness.safetensors").read_bytes() == (source / "witness.safetensors").read_bytes()
    cells, (problem,) = read([tmp_path / "published"], files=True)
    assert not cells
    assert problem.sentence.endswith(": trained on the test split")


def test_what_is_published_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made_cell(tmp_path, clean=[True] * 4, distance=[0.05] * 4)
    command = ["leaderboard", "pack", str(tmp_path / "cells"), "--into", str(tmp_path / "published")]
    assert cli(command) == 0
    assert "1 cells added" in capsys.readouterr().out
    before = {p: p.read_bytes() for p in (tmp_path / "published").rglob("*") if p.is_file()}
    assert cli(command) == 0
    assert "0 cells added, 0 bytes" in capsys.readouterr().out
    record = source / "record.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"seconds": 1.5', '"seconds": 2.5'), encoding="utf-8")
    with pytest.raises(RecordError, match=r"has another record of that key; supersede the old one instead"):
        pack([tmp_path / "cells"], tmp_path / "published")
    assert {p: p.read_bytes() for p in (tmp_path / "published").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("link", ["http://example.org", "javascript:alert(1)", "https://example.org/\n<b>"])
def test_links_are_https_or_refused(tmp_path: Path, link: str) -> None:
    made_cell(tmp_path, clean=[True] * 4, distance=[0.05] * 4)
    with pytest.raises(RecordError, match=r"expected https://"):
        pack([tmp_path / "cells"], tmp_path / "published", link=link)
    assert not list((tmp_path / "published").rglob("record.json")) or read([tmp_path / "published"])[0] == []


def retensored(folder: Path, **arrays: Any) -> None:
    save_file({**load_file(folder / packed.ARRAYS), **arrays}, folder / packed.ARRAYS)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / packed.DOCUMENT
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"broken": np.zeros(3, np.uint8)}, r"broken in packed\.safetensors is uint8 \[3\]; expected uint8 \[2\]"),
        ({"valid": np.full(2, 255, np.uint8)}, r"valid in packed\.safetensors has more than 11 examples"),
        ({"distance": np.zeros(5, np.float32)}, r"distance in packed\.safetensors is float32 \[5\]; expected float32"),
        ({"clean_correct": np.zeros(2, np.uint8)}, "breaks an example that was misclassified before"),
        ({"certified": np.full(11, np.nan, np.float32)}, "NaN or negative"),
        ({"certified": np.zeros(7, np.float32)}, r"certified in .* is float32 \[7\]; expected float32 \[11\]"),
    ],
)
def test_packed_arrays_that_lie_are_refused(cell: Path, arrays: dict[str, Any], sentence: str) -> None:
    retensored(cell, **arrays)
    (one,), _ = read([cell.parent])
    with pytest.raises(RecordError, match=sentence):
        read_evidence(one)


def test_a_truncated_or_absent_file_is_named(cell: Path) -> None:
    (one,), _ = read([cell.parent])
    content = (cell / packed.ARRAYS).read_bytes()
    (cell / packed.ARRAYS).write_bytes(content[:-3])
    with pytest.raises(RecordError, match=r"packed\.safetensors cannot be read"):
        read_evidence(one)
    (cell / packed.ARRAYS).unlink()
    with pytest.raises(RecordError, match=r"is complete, but there is no outcomes\.safetensors beside it"):
        read_evidence(one)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda c: rewritten(c, lambda d: d.update(record_sha256="0")), "does not belong to the record.json beside"),
        (lambda c: rewritten(c, lambda d: d.update(schema_version=2)), "is of schema version 2, and this installation"),
        (lambda c: rewritten(c, lambda d: d.update(more=1)), "Extra inputs are not permitted"),
        (lambda c: rewritten(c, lambda d: d["links"][0].update(sha256="0")), "with another sha256 than the record"),
        (lambda c: rewritten(c, lambda d: d["links"][0].update(url="http://x.org")), "String should match pattern"),
        (lambda c: (c / packed.DOCUMENT).write_text("[]"), "expected a JSON object"),
        (lambda c: retensored(c, broken=np.zeros(2, np.uint8)), "does not have the sha256 in packed.json"),
        (
            lambda c: next(c.parent.glob("examples-*")).unlink(),
            "is missing, or does not have the sha256 in packed.json",
        ),
    ],
)
def test_a_check_of_the_files_finds_what_drifted(cell: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    spoil(cell)
    cells, (problem,) = read([cell.parent], files=True)
    assert not cells
    assert sentence in problem.sentence


def test_a_document_of_an_earlier_version_takes_each_step(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up version 0, which called the links `elsewhere`."""
    now = packed.read_document(cell)
    rewritten(cell, lambda d: d.update(schema_version=0, elsewhere=d.pop("links")))
    with pytest.raises(RecordError, match="was never published"):
        packed.read_document(cell)
    monkeypatch.setitem(
        packed.STEPS, 0, lambda d: {**{k: v for k, v in d.items() if k != "elsewhere"}, "links": d["elsewhere"]}
    )
    assert packed.read_document(cell) == now


def test_outcomes_that_were_fetched_count_first(cell: Path, tmp_path: Path) -> None:
    """Whoever fetches the linked files has a whole cell again."""
    for name in ("outcomes.safetensors", "witness.safetensors"):
        shutil.copy(tmp_path / "cells" / cell.name / name, cell)
    retensored(cell, broken=np.zeros(2, np.uint8))
    (one,), _ = read([cell.parent])
    assert read_evidence(one).broken.sum() == 1
