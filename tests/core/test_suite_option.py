"""The contract suite as an option of pytest: `--contract`."""

from pathlib import Path

import pytest

from tests.conftest import Runner

PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist")
EMPTY = "def test_nothing() -> None: ...\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(EMPTY)
    return tmp_path


def test_a_plugin_is_tested_rule_by_rule_and_rules_can_be_chosen(run_python: Runner, folder: Path) -> None:
    done = run_python(*PYTEST, "-v", "--contract", "metric.passes", "-k", "plain_settings or nothing", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "contract[metric.passes-has_plain_settings] PASSED" in done.stdout
    assert "2 passed" in done.stdout


def test_a_distribution_stands_for_its_plugins_and_may_stand_in_the_configuration(
    run_python: Runner, folder: Path, acme: Path
) -> None:
    (folder / "pytest.ini").write_text("[pytest]\ncontract = acme-attacks\n")
    done = run_python(*PYTEST, "--collect-only", beside=acme, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("attack.acme_signs", "dataset.acme_rings", "defense.acme_steps", "metric.acme_unbroken"):
        assert f"contract[{name}-" in done.stdout


def test_what_is_broken_is_said_in_the_sentence_of_the_rule(run_python: Runner, folder: Path) -> None:
    (folder / "conftest.py").write_text(
        "import benchmark.testing.contract as c\n"
        "def broken(self):\n    raise AssertionError('the metric loses an example')\n"
        "c.Case.run = broken\n"
    )
    done = run_python(*PYTEST, "--contract", "metric.passes", "-k", "plain_settings", cwd=folder)
    assert done.returncode == 1
    assert "the metric loses an example" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_name_that_nothing_has_is_refused(run_python: Runner, folder: Path) -> None:
    done = run_python(*PYTEST, "--contract", "attack.pdg", cwd=folder)
    assert done.returncode == 4
    assert "no plugin named 'attack.pdg'" in done.stderr
    assert "attack.pgd" in done.stderr


def test_without_the_option_nothing_is_added_or_imported(run_python: Runner, folder: Path) -> None:
    (folder / "test_it.py").write_text(
        "import sys\n\n\ndef test_light() -> None:\n    assert 'torch' not in sys.modules\n"
    )
    done = run_python(*PYTEST, cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
