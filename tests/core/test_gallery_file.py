"""The pictures that a cell keeps for its page: by a fixed rule, the same bytes again, none without images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmark.records.outcomes import Outcomes
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.stages import keep as keep_module
from tests.core.cells import small_config


def test_a_cell_keeps_its_first_broken_examples_beside_their_clean_images(tmp_path: Path) -> None:
    folder = Store(tmp_path / "results").cell(run(small_config(tmp_path)).key)
    outcomes, kept = Outcomes.load(folder / "outcomes.safetensors"), load_file(folder / "gallery.safetensors")
    first = outcomes.broken.nonzero().flatten()[:6]
    assert len(first) == 6
    assert torch.equal(kept["ids"], outcomes.ids[first])
    assert torch.equal(kept["y"], outcomes.y[first])
    assert torch.equal(kept["clean_label"], kept["y"])
    assert torch.equal(kept["adv_label"], outcomes.adv_label[first])
    assert torch.all(kept["adv_label"] != kept["y"])
    distance = (kept["adv"] - kept["clean"]).flatten(1).abs().amax(1)
    assert torch.allclose(distance, outcomes.linf[first])
    names = [file.path for file in read_record(folder).files]
    assert names == ["outcomes.safetensors", "witness.safetensors", "gallery.safetensors"]


def test_the_same_cell_keeps_the_same_bytes(tmp_path: Path) -> None:
    kept = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result = run(small_config(tmp_path / name))
        kept.append((Store(tmp_path / name / "results").cell(result.key) / "gallery.safetensors").read_bytes())
    assert kept[0] == kept[1]


@pytest.mark.parametrize(("budget", "shown"), [(3 * 2 * 64 * 4 + 1, 3), (2 * 64 * 4 - 1, 0)])
def test_a_gallery_stays_within_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int, shown: int
) -> None:
    monkeypatch.setattr(keep_module, "GALLERY_BYTES", budget)
    folder = Store(tmp_path / "results").cell(run(small_config(tmp_path)).key)
    path = folder / "gallery.safetensors"
    assert (len(load_file(path)["ids"]) if path.exists() else 0) == shown
    assert ("gallery.safetensors" in [file.path for file in read_record(folder).files]) == bool(shown)
