"""Reading records: what is right is read, what is not is named in one sentence, and the rest stands."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.cells.evidence import read_evidence
from benchmark_leaderboard.cells.load import check_files, find, read
from benchmark_leaderboard.ranking.aggregate import aggregate
from safetensors.numpy import load_file, save_file

from benchmark.errors import RecordError
from benchmark.records.durable import file_sha256
from tests.leaderboard.made_records import made_cell

RIGHT = [True] * 8 + [False] * 2
FAR = [0.05, 0.2, *[math.inf] * 8]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_cell(tmp_path, clean=RIGHT, distance=FAR, attack="fgsm")
    return made_cell(tmp_path, clean=RIGHT, distance=FAR, minimal=True)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "record.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def retensor(folder: Path, **arrays: Any) -> None:
    path = folder / "outcomes.safetensors"
    save_file({**load_file(path), **arrays}, path)
    rewrite(folder, lambda d: d["files"][0].update(sha256=file_sha256(path)))


def only_problem(root: Path, *, files: bool = False) -> str:
    """The one problem there is, found while reading or while aggregating; the other cell of the folder stands."""
    cells, problems = read([root], files=files)
    leaderboard = aggregate(cells, problems)
    assert len(leaderboard.boards) == 1
    (problem,) = leaderboard.problems
    assert problem.path in problem.sentence
    assert str(root) not in problem.sentence
    sentence: str = problem.sentence
    return sentence


def test_evidence_is_what_the_outcomes_say(folder: Path, tmp_path: Path) -> None:
    cells, problems = read([tmp_path], files=True)
    assert not problems
    assert [cell.record.key for cell in cells] == sorted(cell.record.key for cell in cells)
    (cell,) = [c for c in cells if c.record.attack.minimal]
    assert cell.folder == folder
    assert cell.place == f"cells/{cell.record.key}/record.json"
    evidence = read_evidence(cell)
    assert evidence.clean.tolist() == RIGHT
    assert evidence.broken.tolist() == [True] + [False] * 9
    assert evidence.distance.tolist() == pytest.approx(FAR)
    assert evidence.valid.all()


def test_only_a_valid_candidate_of_a_right_example_has_a_distance(folder: Path, tmp_path: Path) -> None:
    retensor(folder, linf=np.full(10, 0.07, dtype=np.float32))
    cells, _ = read([tmp_path])
    (cell,) = [c for c in cells if c.record.attack.minimal]
    evidence = read_evidence(cell)
    assert evidence.distance.tolist() == [pytest.approx(0.07) if right else np.inf for right in RIGHT]


def test_folders_are_searched_in_order_without_hidden_and_unfinished_ones(tmp_path: Path) -> None:
    for place in ("cells/b", "cells/a", "cells/.old-a", "work/c", "suite/work/d", "cells/a/inner"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "record.json").touch()
    (tmp_path / "cells" / "a" / "outcomes.safetensors").touch()
    found = {path.relative_to(tmp_path).as_posix(): sorted(beside) for path, beside in find(tmp_path)}
    assert list(found) == ["cells/a/record.json", "cells/b/record.json", "suite/work/d/record.json"]
    assert found["cells/a/record.json"] == ["inner", "outcomes.safetensors", "record.json"]


def test_a_missing_folder_is_a_problem(tmp_path: Path) -> None:
    _, (problem,) = read([tmp_path / "nowhere"])
    assert problem.sentence == "nowhere is not a folder; expected one that contains cells"


def test_the_same_cell_twice_counts_once_and_a_contradiction_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "more" / folder.name)
    cells, problems = read([tmp_path / "cells", tmp_path / "more"])
    assert len(cells) == 2
    assert not problems
    rewrite(tmp_path / "more" / folder.name, lambda d: (d["provenance"].update(cpus=9), d["cost"].update(seconds=9.0)))
    cells, problems = read([tmp_path / "cells", tmp_path / "more"])
    assert (len(cells), problems) == (2, []), "another run that says the same is no contradiction"
    assert cells[0].record.provenance.get("cpus") != 9
    rewrite(tmp_path / "more" / folder.name, lambda d: d["counts"].update(robust_top5=1))
    cells, (problem,) = read([tmp_path / "cells", tmp_path / "more"])
    assert len(cells) == 2
    assert problem.sentence == (
        f"more/{folder.name}/record.json has the key of cells/{folder.name}/record.json but another content; "
        "the first one is kept, remove one of them"
    )


BAD_RECORDS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("it is of schema version 2, and this installation reads up to 1", lambda d: d.update(schema_version=2)),
    ("key '../../etc/passwd'; expected 24 hexadecimal digits", lambda d: d.update(key="../../etc/passwd")),
    ("system.key ''; expected 24 hexadecimal digits", lambda d: d["system"].update(key="")),
    ("counts.robust_correct: Input should be greater than or equal", lambda d: d["counts"].update(robust_correct=-1)),
    ("counts.clean_correct: Input should be a valid integer", lambda d: d["counts"].update(clean_correct="8a")),
    ("threat.eps: Input should be a finite number", lambda d: d["threat"].update(eps=math.inf)),
    ("surprise: Extra inputs are not permitted", lambda d: d.update(surprise=1)),
    ("is complete but has no counts", lambda d: d.update(counts=None)),
    ("counts no examples; expected at least one", lambda d: d["counts"].update(total=0)),
    ("eps_exact '1e999999999'; expected a fraction", lambda d: d["threat"].update(eps_exact="1e999999999")),
    ("eps_exact '1/0'; expected a fraction", lambda d: d["threat"].update(eps_exact="1/0")),
    ("has eps 0.1 and eps_exact '8/255', which differ", lambda d: d["threat"].update(eps_exact="8/255")),
    ("counts 9 right, 7 robust and 0 invalid, but its outcomes.safetensors has 8, 7 and 0",
     lambda d: d["counts"].update(clean_correct=9)),
    ("clean_correct in the outcomes.safetensors of", lambda d: d["counts"].update(total=11)),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "change"), BAD_RECORDS, ids=[sentence[:40] for sentence, _ in BAD_RECORDS])
def test_a_bad_record_is_named(
    folder: Path, tmp_path: Path, sentence: str, change: Callable[[dict[str, Any]], object]
) -> None:
    rewrite(folder, change)
    assert sentence in only_problem(tmp_path)


BAD_OUTCOMES: list[tuple[str, dict[str, Any]]] = [
    ("broken in the outcomes.safetensors of", {"broken": np.zeros(9, dtype=bool)}),
    ("is float64 [10]; expected float32 [10]", {"linf": np.full(10, np.inf)}),
    ("is uint8 [10]; expected bool [10]", {"valid": np.ones(10, dtype=np.uint8)}),
    ("that is NaN or negative", {"linf": np.full(10, np.nan, dtype=np.float32)}),
    ("that is NaN or negative", {"linf": np.array([-0.1] + [np.inf] * 9, dtype=np.float32)}),
    ("that is NaN or negative", {"certified": np.full(10, -1, dtype=np.float32)}),
    ("that is NaN or negative", {"certified": np.array([np.nan] + [0] * 9, dtype=np.float32)}),
    ("breaks an example that was misclassified before", {"broken": np.array([False] * 9 + [True])}),
    ("8 right, 7 robust and 0 invalid, but its outcomes", {"broken": np.zeros(10, dtype=bool)}),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "arrays"), BAD_OUTCOMES, ids=[str(at) for at in range(len(BAD_OUTCOMES))])
def test_bad_outcomes_are_named(folder: Path, tmp_path: Path, sentence: str, arrays: dict[str, Any]) -> None:
    retensor(folder, **arrays)
    assert sentence in only_problem(tmp_path)


def test_a_truncated_file_is_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "outcomes.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert f"the outcomes.safetensors of cells/{folder.name}/record.json cannot be read" in only_problem(tmp_path)


def test_a_record_that_is_no_json_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "record.json").write_text('{"schema_version": 1,', encoding="utf-8")
    assert only_problem(tmp_path).startswith(f"cells/{folder.name}/record.json is not a record of schema version 1")


def test_files_are_compared_with_their_hashes_on_request(folder: Path, tmp_path: Path) -> None:
    path = folder / "witness.safetensors"
    flipped = bytearray(path.read_bytes())
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    assert not read([tmp_path])[1]
    assert "witness.safetensors beside" in only_problem(tmp_path, files=True)
    assert "does not have the sha256" in only_problem(tmp_path, files=True)
    path.write_bytes(b"")
    assert "has 0 bytes, but " in only_problem(tmp_path, files=True)
    path.unlink()
    assert "names witness.safetensors, but there is no such file beside it" in only_problem(tmp_path, files=True)


@pytest.mark.parametrize("place", ["../x", "/etc/passwd", "a/b", "..", "a\\b", ""])
def test_files_elsewhere_are_not_touched(folder: Path, tmp_path: Path, place: str) -> None:
    rewrite(folder, lambda d: d["files"][0].update(path=place))
    assert f"names the file {place!r}; expected the name of a file beside the record, not a path" in only_problem(
        tmp_path, files=True
    )


def test_the_example_list_must_be_the_one_that_is_claimed(folder: Path, tmp_path: Path) -> None:
    rewrite(folder, lambda d: d.update(examples_sha256="0" * 64))
    cells, _ = read([tmp_path])
    (cell,) = [c for c in cells if c.record.attack.minimal]
    with pytest.raises(RecordError, match=r"that differs from that of its outcomes\.safetensors"):
        check_files(cell)


def test_a_complete_record_must_give_the_hash_of_its_outcomes(folder: Path, tmp_path: Path) -> None:
    rewrite(folder, lambda d: d.update(files=[]))
    assert "is complete but has no hash of its outcomes.safetensors" in only_problem(tmp_path, files=True)


def test_many_records_are_read_quickly(folder: Path, tmp_path: Path) -> None:
    """A tenth of the promised ten thousand in five seconds."""
    text = (folder / "record.json").read_text(encoding="utf-8")
    for at in range(1000):
        place = tmp_path / "many" / f"{at:04d}"
        place.mkdir(parents=True)
        (place / "record.json").write_text(text.replace(folder.name, f"{at:024x}"), encoding="utf-8")
    began = time.process_time()
    cells, problems = read([tmp_path / "many"])
    assert (len(cells), len(problems)) == (1000, 0)
    assert time.process_time() - began < 0.5
