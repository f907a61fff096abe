"""The examples of docs/worked-examples.md: missed diseases by class, and bytes of which only appended ones change."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from benchmark_plugins.models.onnx import Output
from onnx import TensorProto, helper
from PIL import Image

from benchmark.config.schema import Training
from benchmark.records.outcomes import Outcomes
from benchmark.records.store import Store
from benchmark.records.witness import Witness
from benchmark.run import run
from benchmark.threat import Access, Region, RegionKind, Threat
from tests.core.cells import plugin, small_config
from tests.house.checkout import docs_script


def draw_chests(folder: Path, count: int) -> None:
    """Two dark lungs of 32x32 pixels in a folder of each class, with a bright spot in one of them or without."""
    rng = np.random.default_rng(0)
    down, right = np.mgrid[:32, :32] / 31.0

    def spot(x: float, y: float, width: float, height: float) -> np.ndarray:
        bump: np.ndarray = np.exp(-(((right - x) / width) ** 2) - ((down - y) / height) ** 2)
        return bump

    for split, label in ((split, label) for split in ("train", "test") for label in ("NORMAL", "OPACITY")):
        (folder / split / label).mkdir(parents=True)
        for i in range(count if split == "train" else 20):
            picture = (
                0.75 - 0.5 * (spot(0.3, 0.5, 0.16, 0.3) + spot(0.7, 0.5, 0.16, 0.3)) + rng.normal(0, 0.03, (32, 32))
            )
            if label == "OPACITY":
                picture += 0.4 * spot(rng.choice([0.3, 0.7]), rng.uniform(0.35, 0.65), 0.1, 0.1)
            Image.fromarray(np.uint8(255 * picture.clip(0, 1))).save(folder / split / label / f"{i}.png")


def test_missed_diseases_are_counted_by_class_with_and_without_an_attack(tmp_path: Path) -> None:
    draw_chests(tmp_path / "data" / "chest", 60)
    config = small_config(
        tmp_path,
        examples=40,
        dataset=plugin("dataset", "image_folder", path=str(tmp_path / "data" / "chest"), size=32, resize=32),
        model=plugin("model", "lenet"),
        attack=plugin("attack", "pgd", steps=5),
        training=Training(epochs=15, learning_rate=0.003, selection_attack=plugin("attack", "pgd", steps=3)),
        threat=Threat(eps=Fraction(12, 255)),
        metrics=(plugin("metric", "false_negatives"),),
    )
    result = run(config)
    store = Store(tmp_path / "results")
    record = store.record(result.key)
    assert record is not None
    assert record.status == "complete", record.error
    outcomes = Outcomes.load(store.root / "cells" / result.key / "outcomes.safetensors")
    for label in (0, 1):
        of_class = outcomes.y == label
        assert int(of_class.sum()) == 20
        for name, kept in (("clean_", outcomes.clean_correct), ("", outcomes.robust)):
            measured = record.metric(f"{name}false_negative_rate_{label}")
            assert measured is not None
            assert measured.low is not None
            assert measured.value == pytest.approx(float((~kept[of_class]).float().mean()))
    missed = [record.metric(f"{name}false_negative_rate_1") for name in ("clean_", "")]
    assert all(one is not None and one.value is not None for one in missed)
    assert sum(one.value for one in missed[1:]) > sum(one.value for one in missed[:1])  # type: ignore[union-attr, misc]


def stand_in(package: Path) -> None:
    """A model in the place of magika's: its scores are sums of the beginning's and the end's bytes over 255."""
    home = package / "models" / "standard_v3_3"
    home.mkdir(parents=True)
    (home / "config.min.json").write_text(json.dumps({"target_labels_space": ["c", "html", "python"]}))
    weights = np.zeros((2048, 3), np.float32)
    weights[:1024, 0], weights[1024:, 2] = 1 / 255, 1 / 255
    nodes = [
        helper.make_node("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "weights"], ["sums"]),
        helper.make_node("Softmax", ["sums"], ["target_label"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("bytes", TensorProto.INT32, ["N", 2048])],
        [helper.make_tensor_value_info("target_label", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(home / "model.onnx"))


def test_only_the_appended_bytes_of_a_file_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stand_in(tmp_path / "magika")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "short.py").write_bytes(b"x" * 1000)
    for i in range(6):  # the end has 768 bytes of the file and 256 appended zeros
        (tmp_path / "files" / f"{i}.c").write_bytes(b"\n" + bytes([40]) * 1024 + bytes([50]) * 1024)
    with docs_script("bytes_data") as script:
        assert script.written(tmp_path / "magika", [tmp_path / "files"]) == 6
    slack = Region(RegionKind.file, 0, "slack.npy")
    config = small_config(
        tmp_path,
        examples=6,
        dataset=plugin("dataset", "arrays", path="bytes.npz", classes=3),
        model=plugin("model", "onnx", path="magika.onnx", answers=Output.probabilities),
        attack=plugin("attack", "square", queries=100),
        threat=Threat(
            eps=Fraction(1),
            levels=256,
            access=Access.scores,
            queries=100,
            region=slack,
        ),
    )
    result = run(config)
    store = Store(tmp_path / "results")
    record = store.record(result.key)
    assert record is not None
    assert record.status == "complete", record.error
    assert record.counts is not None
    assert (record.counts.clean_correct, record.counts.invalid, record.counts.robust_correct) == (6, 0, 0)
    witness = Witness.load(store.root / "cells" / result.key / "witness.safetensors")
    values = (255 * witness.x_adv).round().to(torch.uint8)
    given = torch.from_numpy(np.load("bytes.npz")["x_test"])
    assert bool((values[:, -256:-1] != given[:, -256:-1]).any())
    values[:, -256:-1] = given[:, -256:-1]
    assert torch.equal(values, given)
