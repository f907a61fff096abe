"""The worked example of CONTRIBUTING.md is a plugin: it is taken from the page and keeps every promise of its kind."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark import registry
from benchmark.testing import contract
from tests.core.cells import declared, small_config
from tests.house.checkout import ROOT, tree
from tests.house.pages import blocks
from tests.house.test_words import side_effects, synonyms

PAGE = ROOT / "CONTRIBUTING.md"
NAME = "benchmark_plugins.attacks.r_fgsm"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The example as a module beside its siblings, declared under the name that the page gives it."""
    (body,) = blocks(PAGE, "python")
    file = tmp_path_factory.mktemp("example") / "r_fgsm.py"
    file.write_text(body, encoding="utf-8")
    importlib.import_module("benchmark_plugins.attacks")
    spec = importlib.util.spec_from_file_location(NAME, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    try:
        spec.loader.exec_module(module)
        with declared(("attack", module.RFGSM)):
            yield module
    finally:
        del sys.modules[NAME]


def test_the_page_declares_the_plugin_under_its_file(example: Any) -> None:
    (line,) = blocks(PAGE, "toml")
    assert line.strip() == f'"attack.r_fgsm" = "{NAME}"'
    assert "plugins/attacks/r_fgsm.py" in PAGE.read_text(encoding="utf-8")
    assert "attack.r_fgsm" not in {d.full_name for d in registry.declared()}, "there is one now: choose another example"
    assert example.benchmark_component() is example.RFGSM


@pytest.mark.parametrize("rule", contract.rules("attack"), ids=lambda rule: rule.name)
def test_the_example_keeps_every_promise(rule: contract.Rule, example: Any) -> None:
    broken = ""
    try:
        rule(example.RFGSM())
    except contract.Inapplicable as reason:
        pytest.skip(str(reason))
    except AssertionError as error:
        broken = str(error)
    assert broken == ""


def test_the_example_keeps_the_house_rules(example: Any) -> None:
    module = tree(Path(example.__file__))
    assert not synonyms(module, attack=True)
    assert not side_effects(module)
    assert len(Path(example.__file__).read_text().splitlines()) <= 150


def test_the_example_does_something(example: Any, tmp_path: Path) -> None:
    from benchmark.records.record import read_record
    from benchmark.records.store import Store
    from benchmark.run import run

    result = run(small_config(tmp_path, attack=example.RFGSM(), examples=100))
    record = read_record(Store(tmp_path / "results").cell(result.key))
    assert record.counts is not None
    assert record.counts.robust_correct < record.counts.clean_correct
    assert record.counts.invalid == 0
