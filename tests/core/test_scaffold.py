"""`benchmark new`: what it writes installs and passes its own tests, unedited."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmark import registry
from benchmark.commands.new import write_package
from benchmark.errors import ConfigError, PluginError
from tests.conftest import Runner, pip_install


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one new package per kind."""
    folder = tmp_path_factory.mktemp("new")
    for kind in registry.KINDS:
        write_package(kind, "two_words", folder)
    return folder


@pytest.fixture(scope="module")
def outcome(written: Path, tmp_path_factory: pytest.TempPathFactory, run_python: Runner) -> dict[str, list[str]]:
    """By kind: the rules that passed in the packages' own tests; failures as text."""
    target = tmp_path_factory.mktemp("new_target")
    packages = sorted(written.iterdir())
    pip_install(target, packages, tmp_path_factory.mktemp("new_sources"))
    report = written / "report.xml"
    tests = [str(next(package.glob("test_*.py"))) for package in packages]
    options = ["-q", "-W", "error", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = run_python("-m", "pytest", *options, f"--junitxml={report}", *tests, beside=target, cwd=written)
    assert done.returncode == 0, done.stdout + done.stderr
    passed: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kind, _, rule = case.attrib["name"].partition("[")[2].rstrip("]").partition(".two_words-")
        if case.find("skipped") is None:
            passed.setdefault(kind, []).append(rule)
    return passed


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_new_package_passes_its_own_tests(kind: str, outcome: dict[str, list[str]]) -> None:
    assert len(outcome[kind]) >= 5


def test_the_new_attack_is_no_stub(outcome: dict[str, list[str]]) -> None:
    assert {"breaks_an_easy_example", "honours_the_query_budget"} <= set(outcome["attack"])
    assert "proves_something" in outcome["certifier"]
    assert "changes_something" in outcome["poison"]


def test_the_files_name_the_plugin_and_leave_no_placeholder(written: Path) -> None:
    for kind in registry.KINDS:
        folder = written / f"benchmark-{kind}-two-words"
        files = {file.name: file.read_text() for file in folder.iterdir()}
        module = f"benchmark_{kind}_two_words"
        assert set(files) == {"pyproject.toml", "README.md", f"{module}.py", f"test_{module}.py"}
        assert f'"{kind}.two_words" = "{module}"' in files["pyproject.toml"]
        assert '"adversarial-benchmark>=0.2,<0.3"' in files["pyproject.toml"]
        assert f'contract.tests("{kind}.two_words")' in files[f"test_{module}.py"]
        assert "class TwoWords(" in files[f"{module}.py"]
        assert not any("$" in text for text in files.values())


def test_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PluginError, match=r"attack\.pgd is already the name of a plugin of adversarial-benchmark 0\.2\.0; c"
    ):
        write_package("attack", "pgd", tmp_path)
    with pytest.raises(PluginError, match="'atack' is not a kind of plugin; expected one of dataset, model"):
        write_package("atack", "acme", tmp_path)
    for name in ("Acme", "a-b", "_x", "9x", "../up", "class", "nan", "null", ""):
        with pytest.raises(ConfigError, match="cannot name a plugin; expected lower-case words"):
            write_package("attack", name, tmp_path)
    write_package("attack", "acme", tmp_path)
    with pytest.raises(ConfigError, match="benchmark-attack-acme exists already; choose another name"):
        write_package("attack", "acme", tmp_path)
