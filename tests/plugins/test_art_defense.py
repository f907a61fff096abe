"""Preprocessors of ART at inference: by name, with their own settings, and the gradient of the identity."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_plugins.defenses import art
from benchmark_plugins.defenses.art import LEFT_OUT, METHODS, preprocessed
from benchmark_plugins.defenses.bit_depth import BitDepth
from benchmark_plugins.defenses.median_smoothing import MedianSmoothing
from torch import nn

from benchmark.api import DataSpec, Defense
from benchmark.cli import main
from benchmark.config.members import named_node
from benchmark.errors import ConfigError, MissingPackage, Refused
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.testing import contract
from tests.core.cells import plugin, small_config

if importlib.util.find_spec("art") is None:
    pytest.skip("adversarial-robustness-toolbox is not installed", allow_module_level=True)

X = torch.rand(5, 3, 9, 8, generator=torch.Generator().manual_seed(0))

test_contract_of_squeezing = contract.tests("defense.art", method="FeatureSqueezing", args={"bit_depth": 4})
test_contract_of_jpeg = contract.tests("defense.art", method="JpegCompression")


def seen(defense: Defense) -> torch.Tensor:
    """Input of a model behind the defense."""
    found: torch.Tensor = defense.protect(nn.Identity())(X)
    return found


def test_every_preprocessor_of_the_installed_toolkit_is_offered_or_left_out_with_a_reason() -> None:
    base, there = art.signature_of("Preprocessor"), vars(art.imported(art.MODULE)).items()
    names = {n for n, c in there if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)}
    assert set(METHODS) | set(LEFT_OUT) == names
    assert not set(METHODS) & set(LEFT_OUT)
    assert [line.split()[0] for line in art.ART.offers()] == list(METHODS)


def test_a_filter_and_rounding_are_the_native_ones() -> None:
    assert torch.equal(seen(art.ART(args={"window_size": 5})), seen(MedianSmoothing(size=5)))
    squeezed = seen(art.ART(method="FeatureSqueezing", args={"bit_depth": 3}))
    torch.testing.assert_close(squeezed, seen(BitDepth(bits=3)))
    assert len(squeezed.unique()) == 8


def test_jpeg_loses_more_at_less_quality() -> None:
    lost = [float((seen(art.ART(method="JpegCompression", args={"quality": q})) - X).square().mean()) for q in (95, 5)]
    assert 0 < lost[0] < lost[1]


def test_the_gradient_is_that_of_the_identity() -> None:
    x, slope = X.clone().requires_grad_(True), torch.arange(float(X.numel())).reshape(X.shape)
    for method in METHODS:
        made = preprocessed(art.ART(method=method)._made(), x)
        assert not torch.equal(made, x)
        assert torch.equal(torch.autograd.grad(made, x, slope)[0], slope)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"method": "SpatialSmoothin"},
            r"art\.method is 'SpatialSmoothin'; expected one of the 3 .*did you mean Spa",
        ),
        ({"method": "PixelDefend"}, r"art\.method is PixelDefend, which needs a PixelCNN .*; expected one of Feature"),
        ({"args": {"size": 3}}, r"art\.args\.size is no parameter of ART's SpatialSmoothing; it has window_size"),
        ({"args": {"clip_values": [0, 255]}}, r"art\.args\.clip_values is set by the bridge, from the data"),
        ({"args": {"window_size": 0}}, r"art\.args are .*, which ART's SpatialSmoothing refuses: Sliding window size"),
        ({"version": "1.0"}, r"art\.version is 1\.0, and adversarial-robustness-toolbox .* is installed"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        art.ART(**settings)


def test_a_missing_toolkit_is_one_sentence_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(art, "PACKAGE", "art_that_is_not_there")
    line = "adversarial-robustness-toolbox, which is not installed: pip install 'adversarial-benchmark"
    with pytest.raises(MissingPackage, match=f"defense.art needs {line}"):
        art.ART()
    assert art.ART.offers() == (line.replace(", which", "").split(" pip")[0] + f" {art.INSTALL}",)


def test_filters_of_images_refuse_tables() -> None:
    table = DataSpec((12,), 2)
    for method in ("SpatialSmoothing", "JpegCompression"):
        with pytest.raises(Refused, match=rf"defense\.art with {method} needs images"):
            art.ART(method=method).check(table)
    with pytest.raises(Refused, match="of at least 9x9 pixels"):
        art.ART(args={"window_size": 9}).check(DataSpec((1, 8, 8), 10))
    art.ART(method="FeatureSqueezing").check(table)


def test_a_defended_system_goes_through_the_store(tmp_path: Path) -> None:
    config = small_config(
        tmp_path, attack=plugin("attack", "fgsm"), defenses=(art.ART(args={"window_size": 2}),), examples=40
    )
    result = run(config)
    assert result.status == "complete", result.error
    record = Store(tmp_path / "results").record(result.key)
    assert record is not None
    assert record.system.config["defenses"][0]["params"]["version"] == art.ART().version
    cells = str(tmp_path / "results" / "cells")
    assert main(["verify", cells, "--store", str(tmp_path / "results"), "--data", str(tmp_path)]) == 0
    others = [art.ART(), art.ART(method="JpegCompression"), art.ART(method="JpegCompression", args={"quality": 9})]
    keys = {replace(config, defenses=(other,)).system_key() for other in others}
    assert len(keys | {config.system_key()}) == 4
    assert record.system.name == config.system_spec.name == "digits/linear+art SpatialSmoothing"


def test_parameters_of_the_toolkit_are_given_by_their_names_there() -> None:
    node = named_node("defense", "art")
    node.args.window_size = 2
    assert node.args == {"window_size": 2}
