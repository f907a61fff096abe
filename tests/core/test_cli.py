"""The command line's static side."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmark import __version__, cli, registry
from benchmark.errors import DataError
from tests.conftest import Runner

NO_TORCH = """
import sys
from benchmark.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
heavy = [m for m in ("torch", "hydra", "omegaconf", "pytorch_lightning", "wandb") if m in sys.modules]
sys.stderr.write(f"{code} {heavy}")
"""


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["plugins"], ["plugins", "attack", "--json"], ["run", "--help"], ["new", "--help"]],
)
def test_looking_around_loads_nothing_heavy(words: list[str], run_python: Runner) -> None:
    done = run_python("-c", NO_TORCH, *words)
    assert done.stderr == "0 []"  # what makes it slow is what it loads; the seconds are in benchmarks/
    assert done.stdout


def test_every_plugin_is_listed_and_each_bad_one_with_its_reason(third_parties: Path, run_python: Runner) -> None:
    done = run_python("-m", "benchmark", "plugins", beside=third_parties)
    assert done.returncode == 0, done.stderr
    assert "acme_signs" in done.stdout
    assert "linf l2 l1 scores targeted randomized" in done.stdout
    for reason in (
        "plugin 'attack.broken' from broken-plugin 0.1.0 failed to import: No module named 'acme_missing_dependency'",
        "plugin 'attack.misspelt' from misspelt-plugin 0.2.0 registers wrongly: unknown hook 'benchmark_componnt'",
        "plugin 'attack.pgd' is declared by adversarial-benchmark 0.1.0 (benchmark_plugins.attacks.pgd) and duplicate-",
        "plugin 'attack.future' from future-plugin 9.0.0 needs adversarial-benchmark>=99, and",
        "plugin 'attack.other_api' from other-api-plugin 0.9.0 was written for version 99 of the plugin contracts",
    ):
        assert reason in done.stdout
    assert "5 cannot" in done.stdout
    names = sum(len(registry.names(kind)) for kind in registry.KINDS)
    assert f"{names - 1 + 7} plugins can be used" in done.stdout


def test_other_commands_work_beside_bad_plugins(third_parties: Path, run_python: Runner) -> None:
    checked = run_python("-m", "benchmark", "plugins", "check", "attack.acme_signs", beside=third_parties)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.splitlines()[-1] == "23 passed, 0 failed, 1 skipped"
    assert run_python("-m", "benchmark", "run", "--help", beside=third_parties).returncode == 0
    refused = run_python("-m", "benchmark", "plugins", "check", "attack.misspelt", beside=third_parties)
    assert refused.returncode == 2
    assert refused.stderr.startswith("benchmark: plugin 'attack.misspelt' from misspelt-plugin 0.2.0 registers wrongly")


def test_a_plugin_that_breaks_a_rule_fails_the_check(tmp_path: Path, run_python: Runner) -> None:
    info = tmp_path / "leaving-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaving\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[benchmark]\nattack.leaving = leaving_plugin\n")
    (tmp_path / "leaving_plugin.py").write_text(
        '"""Leaves the ball. No paper."""\n'
        "from benchmark import hookimpl\n"
        "from benchmark.testing.faults_attack import LeavesTheBall\n\n\n"
        "@hookimpl\ndef benchmark_component():\n    return LeavesTheBall\n"
    )
    done = run_python("-m", "benchmark", "plugins", "check", "attack.leaving", beside=tmp_path)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("fail")]
    assert len(failed) == 1
    assert failed[0].startswith(
        "fail  stays_in_ball_box_and_region: under linf 1/10, access gradients: went to distance"
    )
    assert lines[-1].endswith("1 failed, 1 skipped")


def test_json_says_what_the_table_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plugins", "attack", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(entries) == set(registry.names("attack"))
    assert entries["pgd"]["distribution"] == "adversarial-benchmark"
    assert entries["pgd"]["supports"]["norms"] == ["linf", "l2", "l1"]
    assert "arXiv:1706.06083" in entries["pgd"]["paper"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plugins", "atack"], "'atack' is no kind of plugin; expected one of dataset, model, attack"),
        (["plugins", "check"], "benchmark plugins check needs the name of a plugin, such as attack.pgd"),
        (["plugins", "check", "pgd"], "'pgd' names no plugin; expected KIND.NAME, such as attack.pgd"),
        (["plugins", "attack", "pgd"], "to check a plugin: benchmark plugins check pgd"),
        (["new", "attack", "Not-A-Name"], "'Not-A-Name' cannot name a plugin; expected lower-case words"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("benchmark: ")
    assert sentence in said
    assert said.count("\n") == 1


def noting(seen: list[object], code: int) -> object:
    """A function that notes what it is given, and returns an exit code."""

    def call(*given: object, **named: object) -> int:
        seen.append((*given, *named.values()))
        return code

    return call


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **functions: object) -> None:
    """Put a module in the place of one that a command would import."""
    import benchmark

    module = ModuleType(name)
    for function, value in functions.items():
        setattr(module, function, value)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(benchmark, name.rpartition(".")[2], module, raising=False)


def test_run_hands_its_words_on_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    fake(monkeypatch, "benchmark.hydra_app", main=noting(seen, 0), complete=noting(seen, 7))
    assert cli.main(["run", "-m", "defense=[],[jpeg]", "--cfg", "job"]) == 0
    assert cli.main(["run", "--hydra-help"]) == 0
    assert cli.main(["-sc", "query=bash"]) == 7
    assert seen == [(["-m", "defense=[],[jpeg]", "--cfg", "job"],), (["--hydra-help"],), (["-sc", "query=bash"],)]


def test_errors_and_interruptions_have_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: list[str]) -> int:
        raise DataError("data/mnist misses a file")

    def interrupt(argv: list[str]) -> int:
        raise KeyboardInterrupt

    fake(monkeypatch, "benchmark.hydra_app", main=fail)
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err == "benchmark: data/mnist misses a file\n"
    fake(monkeypatch, "benchmark.hydra_app", main=interrupt)
    assert cli.main(["run"]) == 130


def test_other_commands_get_their_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    fake(monkeypatch, "benchmark.status", main=noting(seen, 0))
    fake(monkeypatch, "benchmark.verify_records", main=noting(seen, 1))
    assert cli.main(["status"]) == 0
    assert cli.main(["verify", "a", "b", "--store", "s"]) == 1
    assert cli.main(["verify", "a", "--distances"]) == 1
    assert seen == [("results",), (["a", "b"], "s", "data", False), (["a"], "results", "data", True)]


def test_help_of_run_shows_what_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--help"]) == 0
    said = capsys.readouterr().out
    words = said.replace(",", " ").split()
    for kind in registry.KINDS:
        assert set(registry.names(kind)) <= set(words)
    for choice in ("linf_8_255", "ddp", "hydra/launcher=joblib", "--cfg", "--hydra-help"):
        assert choice in said
    assert 'eval "$(benchmark -sc install=bash)"' in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"benchmark {__version__}\n"
