"""Stores on object storage: read through an up-to-date mirror, merged both ways, and refused to who computes."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import benchmark
from benchmark.cli import main
from benchmark.config.schema import StoreConfig
from benchmark.errors import ConfigError, StoreError
from benchmark.records.remote import fetched
from benchmark.records.store import Store
from benchmark.run import run
from tests.core.cells import plugin, small_config

URL = "memory://lab/results"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("made")
    for attack in ("fgsm", "noise"):
        assert run(small_config(root, examples=16, attack=plugin("attack", attack))).status == "complete"
    return Store(root / "results")


@pytest.fixture
def bucket(made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """A bucket in memory, with the store in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    assert main(["store", "merge", str(made.root), "--store", URL]) == 0
    yield system
    system.rm("/lab", recursive=True)


def _said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 0, capsys.readouterr()
    return capsys.readouterr().out


def _counted(monkeypatch: pytest.MonkeyPatch, system: fsspec.AbstractFileSystem) -> list[str]:
    """Names of the files that are downloaded from now on."""
    got: list[str] = []
    original = type(system).get

    def get(self: object, rpath: list[str], *args: object, **options: object) -> object:
        got.extend(name.partition("results/")[2] for name in rpath)
        return original(self, rpath, *args, **options)

    monkeypatch.setattr(type(system), "get", get)
    return got


def test_what_reads_a_store_reads_it_at_a_url(
    bucket: fsspec.AbstractFileSystem, made: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = str(made.root)
    for words in (["status"], ["status", "--cells"], ["table"], ["compare", *(r.key for r in made.records())]):
        assert _said(capsys, *words, "--store", URL) == _said(capsys, *words, "--store", here), words
    found = benchmark.read(URL)
    assert [cell.record for cell in found] == [cell.record for cell in benchmark.read(made.root)]
    assert all(cell.folder.is_relative_to(tmp_path / "cache") for cell in found)
    assert "2 verified, 0 failed" in _said(capsys, "verify", f"{URL}/cells", "--store", URL)
    assert "2 cells and 1 systems: 0 broken" in _said(capsys, "store", "check", "--store", URL)
    for place, out in ((f"{URL}/cells", "there"), (f"{here}/cells", "here")):
        _said(capsys, "leaderboard", "build", "--results", place, "--out", str(tmp_path / out))
    pages = sorted(p.relative_to(tmp_path / "here") for p in (tmp_path / "here").rglob("*") if p.is_file())
    assert pages
    for page in pages:
        assert (tmp_path / "there" / page).read_bytes() == (tmp_path / "here" / page).read_bytes(), page


def test_only_what_changed_is_downloaded(bucket: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    got = _counted(monkeypatch, bucket)
    mirror = fetched(URL)
    assert {name.split("/")[0] for name in got} == {"cells", "systems"}
    assert not any(name.endswith("weights.safetensors") for name in got)
    first, second = (record.key for record in Store(mirror).records())
    got.clear()
    assert fetched(URL) == mirror
    assert got == []
    bucket.pipe_file(f"/lab/results/cells/{first}/record.json", b"{}")
    bucket.rm(f"/lab/results/cells/{second}", recursive=True)
    bucket.pipe_file("/lab/results/cells/.old-one/record.json", b"{}")
    fetched(URL)
    assert got == [f"cells/{first}/record.json"]
    assert [path.name for path in (mirror / "cells").iterdir()] == [first]
    assert list(Store(mirror).unreadable()) == [first]
    fetched(URL, systems=True)
    assert got[-1].endswith("weights.safetensors")


def test_two_stores_are_merged_through_a_url(
    bucket: fsspec.AbstractFileSystem, made: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    assert _said(capsys, "store", "merge", URL, "--store", str(copy)) == "3 copied, 0 there already, 0 in conflict\n"
    for kind in ("cells", "systems"):
        for path in (made.root / kind).rglob("*.*"):
            assert (copy / path.relative_to(made.root)).read_bytes() == path.read_bytes(), path
    assert _said(capsys, "store", "merge", str(copy), "--store", URL) == "0 copied, 3 there already, 0 in conflict\n"
    key = made.records()[0].key
    outcomes = copy / "cells" / key / "outcomes.safetensors"
    shutil.copy(made.cell(made.records()[1].key) / "outcomes.safetensors", outcomes)
    before = bucket.cat_file(f"/lab/results/cells/{key}/outcomes.safetensors")
    assert main(["store", "merge", str(copy), "--store", URL]) == 1
    assert f"conflict  {copy}/cells/{key} has outcomes.safetensors" in capsys.readouterr().out
    assert bucket.cat_file(f"/lab/results/cells/{key}/outcomes.safetensors") == before


def test_a_real_server_is_read(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=made.root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert _said(capsys, "table", "--store", url) == _said(capsys, "table", "--store", str(made.root))
        server.shutdown()
    assert main(["table", "--store", url]) == 2
    assert f"{url} cannot be read" in capsys.readouterr().err


def test_who_computes_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = "the store s3://lab/results is on object storage, which has no locks"
    with pytest.raises(ConfigError, match=said):
        StoreConfig(root="s3://lab/results")
    for words in (
        ["run", "store.root=s3://lab/results"],
        ["run", "-m", "store.root=s3://lab/results", "attack=fgsm,pgd"],
        ["plan", "quickstart", "store.root=s3://lab/results"],
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
    for words in (["transfer"], ["store", "clean"]):
        with pytest.raises(SystemExit, match="2"):
            main([*words, "--store", "s3://lab/results"])
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"), [("memory://nobody/results", "there is nothing at"), ("nosuch://x/y", "Protocol not known")]
)
def test_a_url_that_cannot_be_read_is_named(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(StoreError, match=said):
        benchmark.read(url)


def test_a_name_that_leaves_the_folder_is_refused(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    bucket.store["/lab/results/cells/../../../escaped"] = bucket.store[next(iter(bucket.store))]
    with pytest.raises(StoreError, match=r"'cells/../../../escaped', which is no path below it"):
        fetched(URL)
    assert not list(tmp_path.rglob("escaped"))
    del bucket.store["/lab/results/cells/../../../escaped"]
