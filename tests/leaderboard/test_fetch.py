"""Published systems in the stores of others: fetched by hash, and attacked as the row that they are."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.fetch import fetch
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.review.pack import pack
from benchmark_leaderboard.review.submission import Submitter, pack_submission

from benchmark.cli import main as cli
from benchmark.errors import RecordError
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import plugin, small_config


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An author's folder: a store of one cell under noise, and that cell published."""
    root = tmp_path_factory.mktemp("author")
    run(small_config(root, examples=60, attack=plugin("attack", "noise")))
    pack([root / "results" / "cells"], root / "published")
    return root


@pytest.fixture(scope="module")
def record(home: Path) -> Record:
    ((cell,), _) = read([home / "published"])
    found: Record = cell.record
    return found


@pytest.fixture
def weights(home: Path, record: Record) -> Iterator[str]:
    """URL of the weights on a server on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Print nothing."""

    files = Store(home / "results").system(record.system.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/weights.safetensors"
        server.shutdown()
        thread.join()


def test_an_attack_on_fetched_weights_lowers_the_published_row(
    home: Path, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--results", str(home / "published"), "--store", str(tmp_path / "results")]
    assert cli(["fetch", record.system.key, "--from", str(home / "results"), *where]) == 0
    theirs, mine = (Store(root / "results").system(record.system.key) for root in (home, tmp_path))
    assert f"{mine} has the published weights of {record.system.name}\n" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}
    made = run(small_config(tmp_path, examples=60))
    assert {path.name: path.read_bytes() for path in mine.iterdir() if path.name in before} == before
    found = Store(tmp_path / "results").record(made.key)
    assert found is not None
    assert (found.system.key, found.weights_sha256) == (record.system.key, record.weights_sha256)
    (alone,) = aggregate(*read([home / "published"])).boards
    (both,) = aggregate(*read([home / "published", tmp_path / "results" / "cells"])).boards
    assert len(both.rows) == 1
    assert both.rows[0].robust.value < alone.rows[0].robust.value


def test_a_fetched_system_needs_no_network_again(
    home: Path, record: Record, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = fetch(record, weights, Store(tmp_path))
    assert Store(tmp_path).card(record.system.key) == card
    assert Store(tmp_path).differs(card) == ""
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    where = ["--results", str(home / "published"), "--store", str(tmp_path)]
    assert cli(["fetch", record.system.key, "--from", "https://nowhere.invalid/w", *where]) == 0
    assert "already" in capsys.readouterr().out


def test_the_address_of_the_weights_is_that_of_the_notes(
    home: Path, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "published"
    shutil.copytree(home / "published", results)
    arguments = ["fetch", record.system.key, "--results", str(results), "--store", str(tmp_path / "results")]
    assert cli(arguments) == 2
    assert f"the weights of system {record.system.key} are not published: no systems.json" in capsys.readouterr().err
    note = {"weights": "https://nowhere.invalid/w.safetensors", "weights_sha256": record.weights_sha256}
    (results / "systems.json").write_text(json.dumps({"0" * 24: note}), encoding="utf-8")
    assert cli(arguments) == 2
    assert "https://nowhere.invalid/card.json cannot be read" in capsys.readouterr().err


def test_a_submission_with_weights_is_a_source(home: Path, record: Record, tmp_path: Path) -> None:
    submission = tmp_path / "submission.zip"
    author = Submitter(name="Author")
    pack_submission([home / "results" / "cells"], home / "results", submission, submitter=author, weights=True)
    assert fetch(record, str(submission), Store(tmp_path / "results")).key == record.system.key


def test_other_weights_cards_and_places_are_refused(home: Path, record: Record, tmp_path: Path) -> None:
    files, store = tmp_path / "files", Store(tmp_path / "results")
    shutil.copytree(Store(home / "results").system(record.system.key), files / "systems" / record.system.key)
    folder = files / "systems" / record.system.key
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "weights.safetensors").write_bytes(sound["weights.safetensors"][:-1] + b"\1")
    with pytest.raises(RecordError, match=f"but the published file has {record.weights_sha256}"):
        fetch(record, str(files), store)
    card = json.loads(sound["card.json"]) | {"weights_sha256": "0" * 64, "sha256": ""}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(RecordError, match="or names other weights than its"):
        fetch(record, str(files), store)
    with pytest.raises(RecordError, match="cannot be read"):
        fetch(record, str(tmp_path / "nowhere"), store)
    with pytest.raises(RecordError, match="expected https, or http to this machine"):
        fetch(record, "http://example.org/weights.safetensors", store)
    assert store.card(record.system.key) is None
    assert list(store.root.iterdir()) == []


def test_a_key_that_no_record_has_is_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["fetch", "0" * 24, "--results", str(home / "published"), "--store", str(tmp_path)]) == 2
    assert f"no published record under {home / 'published'} is of system '{'0' * 24}'" in capsys.readouterr().err
