"""Keys: inputs count by their content and never by their place, code by its version or its source."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmark.commands.reproduce import main as reproduce
from benchmark.commands.stale import stale
from benchmark.config.schema import SystemConfig
from benchmark.records.content import content_sha256, stamp
from benchmark.records.document import system_key
from benchmark.records.record import Record, cell_key, read_record
from benchmark.records.store import Store
from benchmark.registry import origin
from benchmark.run import run
from benchmark.threat import Norm, Region, RegionKind, Threat, parse_eps
from tests.core.cells import plugin, small_config


def _record(root: Path, key: str) -> Record:
    record = Store(root / "results").record(key)
    assert record is not None
    assert record.status == "complete", record.error
    return record


def _arrays(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    x, y = rng.random((60, 4)).astype(np.float32), np.arange(60) % 2
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    return path


def test_keys_follow_from_the_record_alone(tmp_path: Path) -> None:
    config = small_config(tmp_path, examples=30)
    record = _record(tmp_path, run(config).key)
    assert record.key == cell_key(record) == config.cell_key()
    assert record.system.key == system_key(record.system.config, record.seed, record.dataset_revision)
    assert cell_key(record.model_copy(update={"examples": 31})) != record.key
    assert cell_key(Record.model_validate_json(record.model_dump_json())) == record.key


def test_weights_to_start_from_count_by_their_content(tmp_path: Path) -> None:
    first = small_config(tmp_path, examples=30)
    trained = _record(tmp_path, run(first).key).system.key
    weights = load_file(Store(tmp_path / "results").system(trained) / "weights.safetensors")
    start, copy = tmp_path / "start.safetensors", tmp_path / "elsewhere" / "copy.safetensors"
    copy.parent.mkdir()
    for path in (start, copy):
        save_file(weights, path)
    tuned = dataclasses.replace(first, system=SystemConfig(init_from=str(start)))
    moved = dataclasses.replace(first, system=SystemConfig(init_from=str(copy)))
    by_key = dataclasses.replace(first, system=SystemConfig(init_from=trained))
    assert tuned.cell_key() == moved.cell_key() == by_key.cell_key() != first.cell_key()
    record = _record(tmp_path, run(tuned).key)
    assert record.system.config["init_from"] == f"sha256:{content_sha256(copy)}"
    assert str(tmp_path) not in record.system.model_dump_json()
    before = tuned.cell_key()
    save_file({name: -value for name, value in weights.items()}, start)
    assert tuned.cell_key() != before
    assert moved.cell_key() == before
    assert not run(tuned).cached


def test_files_of_datasets_and_models_count_by_their_content(tmp_path: Path) -> None:
    one, same, other = _arrays(tmp_path / "a.npz"), tmp_path / "b.npz", _arrays(tmp_path / "c.npz", seed=1)
    same.write_bytes(one.read_bytes())
    datasets = [plugin("dataset", "arrays", path=str(path)) for path in (one, same, other)]
    keys = [small_config(tmp_path, dataset=dataset).cell_key() for dataset in datasets]
    assert keys[0] == keys[1] != keys[2]
    weights = [tmp_path / "w.safetensors", tmp_path / "v.safetensors"]
    for path in weights:
        save_file({"w": torch.zeros(2)}, path)
    models = [plugin("model", "checkpoint", path=str(p), model=plugin("model", "linear")) for p in weights]
    assert len({small_config(tmp_path, model=model).system_key() for model in models}) == 1
    save_file({"w": torch.ones(2)}, weights[0])
    assert len({small_config(tmp_path, model=model).system_key() for model in models}) == 2


def test_a_folder_counts_by_the_bytes_of_its_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "train").mkdir(parents=True)
        (tmp_path / name / "train" / "1.png").write_bytes(b"one")
    assert content_sha256(tmp_path / "a") == content_sha256(tmp_path / "b")
    before, seen = content_sha256(tmp_path / "a"), stamp(tmp_path / "a")
    image = tmp_path / "a" / "train" / "1.png"
    times = image.stat()
    image.write_bytes(b"two")
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps the times leaves it
    assert stamp(tmp_path / "a") != seen
    assert content_sha256(tmp_path / "a") != before


def test_a_mask_counts_by_what_it_opens(tmp_path: Path) -> None:
    mask = np.arange(64).reshape(8, 8) % 2
    np.save(tmp_path / "one.npy", mask)
    np.save(tmp_path / "two.npy", mask.astype(np.float32) * 3)
    np.save(tmp_path / "three.npy", 1 - mask)

    def key(name: str) -> str:
        region = Region(RegionKind.file, path=str(tmp_path / name))
        return small_config(tmp_path, threat=Threat(Norm.linf, parse_eps("1/10"), region=region)).cell_key()

    assert key("one.npy") == key("two.npy") != key("three.npy")


def test_a_cell_is_made_again_from_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = small_config(tmp_path, examples=30)
    system = _record(tmp_path, run(first).key).system.key
    np.save(tmp_path / "mask.npy", np.arange(64).reshape(8, 8) % 3 > 0)
    region = Region(RegionKind.file, path=str(tmp_path / "mask.npy"))
    config = small_config(
        tmp_path,
        examples=30,
        attack=plugin("attack", "pgd", steps=3),
        threat=Threat(Norm.linf, parse_eps("1/10"), region=region),
        certifiers=(plugin("certifier", "exact"),),
        system=SystemConfig(init_from=system),
    )
    key = run(config).key
    (tmp_path / "mask.npy").unlink()
    folder = Store(tmp_path / "results").cell(key)
    assert reproduce(folder, tmp_path / "results", tmp_path / "data") == 0
    assert capsys.readouterr().out.endswith(f"{key}  outcomes and witness are identical, bit for bit\n")
    record = read_record(folder)
    stronger = record.attack.model_copy(update={"params": {**record.attack.params, "steps": 30}})
    changed = record.model_copy(update={"attack": stronger})
    (folder / "record.json").write_text(changed.model_copy(update={"key": cell_key(changed)}).model_dump_json())
    assert reproduce(folder, tmp_path / "results", tmp_path / "data") == 1
    assert "the witness: " in capsys.readouterr().out


def test_stale_cells_are_listed_with_the_reason(tmp_path: Path) -> None:
    record = _record(tmp_path, run(small_config(tmp_path, examples=30)).key)
    assert stale([record]) == []
    older = record.model_copy(update={"attack": record.attack.model_copy(update={"version": "0.2.0+src.000000000000"})})
    ((_, (why,)),) = stale([older])
    assert why == f"fgsm 0.2.0+src.000000000000, now {record.attack.version}"
    ((_, (why,)),) = stale([record.model_copy(update={"harness": ""})])
    assert why == "made by 0.1, whose keys knew inputs by name and code by version"


# --- the source of plugins ---


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution `acme-keys` with a plugin that imports a module, which imports another."""
    folder = tmp_path / "site"
    (folder / "acme_keys").mkdir(parents=True)
    info = folder / "acme_keys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-keys\nVersion: 1.0\n")
    (info / "RECORD").write_text("")
    for name, text in {
        "__init__": "", "attack": "from .steps import step\nimport torch\nx = step(1)\n", "unused": "y = 1\n",
        "steps": "def step(n):\n    from acme_keys import deep\n    return n + deep.N\n", "deep": "N = 1\n",
    }.items():  # fmt: skip
        (folder / "acme_keys" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    yield folder / "acme_keys"
    _forget()
    for name in [name for name in sys.modules if name.startswith("acme_keys")]:
        del sys.modules[name]


def _forget() -> None:
    """As in a new process."""
    for cached in (origin._version, origin._released, origin._spec, origin._file, origin._parsed):
        cached.cache_clear()


def _version() -> str:
    _forget()
    return origin.version_of("acme-keys", "1.0", "acme_keys.attack")


def test_edited_source_has_another_version(package: Path) -> None:
    before = _version()
    assert before.startswith("1.0+src.")
    (package / "unused.py").write_text("y = 2\n")
    (package / "deep.py").write_text('"""A constant."""\n\n# the best one\nN = (1)\n')
    assert _version() == before
    (package / "deep.py").write_text("N = 2\n")
    assert _version() != before


def test_a_release_stands_for_itself_until_it_is_edited(package: Path) -> None:
    import base64
    import hashlib

    lines = []
    for file in sorted(package.glob("*.py")):
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
        lines.append(f"acme_keys/{file.name},sha256={digest},{file.stat().st_size}\n")
    info = package.parent / "acme_keys-1.0.dist-info"
    (info / "RECORD").write_text("".join(lines))
    assert _version() == "1.0"
    (info / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))
    assert _version().startswith("1.0+src.")
    (info / "direct_url.json").unlink()
    assert _version() == "1.0"
    (package / "deep.py").write_text("N = 3\n")
    assert _version().startswith("1.0+src.")


def test_the_harness_counts_by_the_code_that_makes_numbers() -> None:
    cell, system = _followed("cell"), _followed("system")
    core = {"stages.judge", "stages.batch", "stages.training", "system.target", "threat.ball", "oracles.relu"}
    assert {f"benchmark.{name}" for name in core} <= cell
    assert not [
        name for name in cell if name.startswith(("benchmark.commands", "benchmark.testing", "benchmark.sweep"))
    ]
    assert "benchmark.stages.training" in system
    assert "benchmark.stages.findings" not in system


def _followed(part: str) -> set[str]:
    """The modules whose code a part depends on."""
    seen: set[str] = {*origin.ROOTS[part]}

    def follow(name: str) -> bool:
        seen.update({name} if name.startswith(origin.COMPUTES) and origin._file(name) else ())
        return name.startswith(origin.COMPUTES)

    origin.source_digest(origin.ROOTS[part], follow)
    return seen
