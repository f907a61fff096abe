"""Descriptions of plugins against what loading says, and beside bad distributions."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmark import registry
from benchmark.errors import PluginError
from benchmark.registry import Declared, catalogue, installed, trial
from benchmark.threat import Norm
from tests.conftest import Runner

DESCRIBED = {d.declared: d for d in catalogue.catalogue()}


@pytest.mark.parametrize("plugin", registry.declared(), ids=lambda d: d.full_name)
def test_a_description_says_what_loading_says(plugin: Declared) -> None:
    said = DESCRIBED[plugin]
    cls: Any = registry.load(plugin.kind, plugin.name)
    assert said.problem == ""
    assert said.class_name == cls.__name__
    assert list(said.fields) == [f.name for f in dataclasses.fields(cls) if f.init]
    for field in dataclasses.fields(cls):
        default = field.default
        if (
            field.init
            and isinstance(default, (bool, int, float, str))
            and not {"plugin", "plugins"} & set(field.metadata)
        ):
            assert said.fields[field.name] == default, field.name
    supports = getattr(cls, "supports", None)
    if supports is None:
        assert said.supports == {}
        return
    names = [field.name for field in dataclasses.fields(supports) if field.name not in ("norms", "access")]
    flags = {name: getattr(supports, name) for name in names}
    norms = [norm.value for norm in Norm if norm in supports.norms]
    assert said.supports == {"norms": norms, "access": supports.access.value, **flags}


def said_of(plugin: Declared, monkeypatch: pytest.MonkeyPatch) -> catalogue.Description:
    """The description of a plugin that is declared alone."""
    monkeypatch.setattr(installed, "declared", lambda: (plugin,))
    return catalogue.Description(plugin, **trial.description_of(plugin))


def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> catalogue.Description:
    """The description of a plugin with this source."""
    module = f"planted_{abs(hash(text))}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return said_of(Declared("attack", "planted", module, "planted", "1.0"), monkeypatch)


HEAD = '''"""Planted: {summary}. Nobody, 2020, arXiv:2001.00001."""
import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar
from benchmark import hookimpl
from benchmark.api import Attack, Supports
from benchmark.threat import Access, Norm
STEPS = 7
'''
TAIL = """
    def perturb(self, target, x, y, *, threat, rng):
        return x

@hookimpl
def benchmark_component():
    return Planted
"""


def test_literals_constants_and_members_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
@dataclass(frozen=True)
class Planted(Attack):
    supports: ClassVar[Supports] = Supports(frozenset({Norm.l2, Norm.l0}), access=Access.labels, minimal=True)
    steps: int = STEPS
    step_size: float = 2 / 8
    widths: tuple[int, ...] = (1, -2)
    norm: Norm = Norm.l1
    names: list[str] = field(default_factory=list)
    computed: float = max(1.0, 2.0)
    hidden: int = field(default=3, init=False)
"""
    said = page(tmp_path, monkeypatch, HEAD + body + TAIL)
    assert said.problem == ""
    assert said.paper == "Nobody, 2020, arXiv:2001.00001."
    assert said.fields == {
        "steps": 7,
        "step_size": 0.25,
        "widths": [1, -2],
        "norm": "l1",
        "names": [],
        "computed": 2.0,
    }
    assert said.supports["norms"] == ["l2", "l0"]
    assert said.supports["access"] == "labels"
    assert said.supports["minimal"] is True
    assert said.supports["targeted"] is False


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def broken(:", "failed to import: SyntaxError"),
        (
            "import nowhere_to_be_found.at_all\n",
            "No module named 'nowhere_to_be_found'. Try: pip install nowhere_to_be_f",
        ),
        ("x = 1\n", "registers no component (hooks found: none); a plugin module ends with @hookimpl"),
        (
            HEAD + "\n@dataclass\nclass Planted(Attack):\n    steps: int = 1\n" + TAIL,
            "cannot inherit non-frozen dataclass",
        ),
        (
            HEAD
            + "\n@dataclass(frozen=True)\nclass Planted(Attack):\n    steps: int = 1\n"
            + TAIL.replace("perturb", "p"),
            "Planted does not define perturb",
        ),
        (
            HEAD + "\n@dataclass(frozen=True)\nclass Planted(Attack):\n    steps: int = 1\n" + TAIL,
            "Planted does not declare supports: ClassVar[Supports] = Supports(...)",
        ),
    ],
    ids=["syntax", "missing", "no hook", "not frozen", "abstract", "no supports"],
)
def test_what_the_file_shows_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str) -> None:
    said = page(tmp_path, monkeypatch, text)
    assert said.problem.startswith("plugin 'attack.planted' from planted 1.0")
    assert sentence in said.problem


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("attack.", "is named 'attack.'; expected KIND.NAME, such as attack.acme"),
        ("atack.x", "is of kind 'atack'; exp"),
    ],
)
def test_an_entry_point_that_names_no_plugin_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    module, (kind, _, short) = f"names_{len(name)}", name.partition(".")
    body = "\n@dataclass(frozen=True)\nclass Planted(Attack):\n    supports: ClassVar[Supports] = Supports()\n"
    (tmp_path / f"{module}.py").write_text(HEAD + body + TAIL)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = Declared(kind, short, module, "planted", "1.0")
    assert sentence in said_of(plugin, monkeypatch).problem
    with pytest.raises(PluginError) as caught:
        registry.load(kind, short)
    assert sentence in str(caught.value)


def test_a_module_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Declared("attack", "gone", "gone_plugin.attacks", "gone", "1.0")
    said = said_of(plugin, monkeypatch)
    assert said.problem.endswith(
        "failed to import: No module named 'gone_plugin'. The package must contain gone_plugin"
    )


CRASH = '''"""Crashes the interpreter when it is imported. No paper."""
import os
os._exit(3)
from benchmark import hookimpl

@hookimpl
def benchmark_component():
    return None
'''


def test_a_plugin_that_ends_the_process_is_named_and_the_rest_is_listed(tmp_path: Path, run_python: Runner) -> None:
    info = tmp_path / "crashing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[benchmark]\nattack.crashing = crashing_plugin\n")
    (tmp_path / "crashing_plugin.py").write_text(CRASH)
    done = run_python("-m", "benchmark", "plugins", "attack", "--json", beside=tmp_path)
    assert done.returncode == 0, done.stderr
    said = {entry["name"]: entry["problem"] for entry in json.loads(done.stdout)}
    assert "ended the process with code 3 while it was imported" in said["crashing"]
    assert said["pgd"] == ""


def test_the_real_import_is_remembered(acme: Path, run_python: Runner, tmp_path: Path) -> None:
    code = """
import os, sys
from benchmark.registry import catalogue
asked = []
real = catalogue.answers_of_child
catalogue.answers_of_child = lambda plugins: asked.append(sorted(p["name"] for p in plugins)) or real(plugins)
os.environ["XDG_CACHE_HOME"] = sys.argv[1]
for _ in range(2):
    assert all(not d.problem for d in catalogue.catalogue())
assert "torch" not in sys.modules
print(asked)
"""
    done = run_python("-c", code, str(tmp_path), beside=acme)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'acme_signs'") == 1
    again = run_python("-c", code, str(tmp_path), beside=acme)
    assert again.stdout == "[]\n"
