"""The command line's static side."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmark import __version__, cli, registry
from benchmark.commands import gate
from benchmark.config.schema import SystemConfig
from benchmark.errors import DataError
from benchmark.records.record import Record, read_record
from benchmark.run import run
from tests.conftest import Runner
from tests.core.cells import small_config

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
        f"plugin 'attack.pgd' is declared by adversarial-benchmark {__version__} (benchmark_plugins.attacks.pgd) and ",
        "plugin 'attack.future' from future-plugin 9.0.0 needs adversarial-benchmark>=99, but",
        "plugin 'attack.other_api' from other-api-plugin 0.9.0 was written for version 99 of the plugin contracts",
    ):
        assert reason in done.stdout
    assert "5 cannot" in done.stdout
    names = sum(len(registry.names(kind)) for kind in registry.KINDS)
    assert f"{names - 1 + 10} plugins can be used" in done.stdout


def test_other_commands_work_beside_bad_plugins(third_parties: Path, run_python: Runner) -> None:
    checked = run_python("-m", "benchmark", "plugins", "check", "attack.acme_signs", beside=third_parties)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.fullmatch(r"2\d passed, 0 failed, \d skipped", checked.stdout.splitlines()[-1])
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
        "from benchmark.testing.faults_candidates import LeavesTheBall\n\n\n"
        "@hookimpl\ndef benchmark_component():\n    return LeavesTheBall\n"
    )
    done = run_python("-m", "benchmark", "plugins", "check", "attack.leaving", beside=tmp_path)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("fail")]
    assert [line.split(":")[0].removeprefix("fail  ") for line in failed] == [
        "stays_in_ball_box_and_region",
        "works_on_every_shape_it_accepts",
    ]
    assert failed[0].startswith(
        "fail  stays_in_ball_box_and_region: under linf 1/10, access gradients: moved to distance"
    )
    assert re.fullmatch(r"2\d passed, 2 failed, \d skipped", lines[-1])


def test_json_says_what_the_table_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plugins", "attack", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(entries) == set(registry.names("attack"))
    assert entries["pgd"]["distribution"] == "adversarial-benchmark"
    assert entries["pgd"]["supports"]["norms"] == ["linf", "l2", "l1"]
    assert "arXiv:1706.06083" in entries["pgd"]["paper"]


@pytest.mark.parametrize("words", [["plugins", "defense.jpeg"], ["plugins", "defense", "jpeg"]])
def test_one_plugin_is_shown_with_its_settings(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("defense.jpeg  adversarial-benchmark ")
    assert "Dziugaite" in said
    assert "quality: 1 to 95, as in libjpeg" in said
    assert "\n  defense.jpeg.quality=75\n" in said
    assert "\nbenchmark run 'defense=[jpeg]'\n" in said


def test_settings_are_shown_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plugins", "attack.pgd"]) == 0
    said = capsys.readouterr().out.splitlines()
    for line in ("attack.steps=40", "attack.random_start=true", "attack.loss=ce", "attack.step_size"):
        assert f"  {line}" in said


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m benchmark plugins | {sys.executable} -c 'input()'; exit $PIPESTATUS"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": ""},
    ],
    ids=["ascii", "cp1252", "latin-1", "C"],
)
def test_a_stream_that_is_not_utf8_gets_letters_without_accents(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "benchmark", "plugins", "metric"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode("ascii")
    assert "Cina et al., AttackBench" in said
    assert said.splitlines()[-1].endswith("One of them: benchmark plugins KIND.NAME")


def finished(root: Path, **changes: Any) -> Record:
    """The record of a small cell in the store below `root`."""
    done = run(small_config(root, **changes))
    return read_record(root / "results" / "cells" / done.key)


def test_status_holds_cells_to_a_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "results")
    (tmp_path / "results").mkdir()
    assert cli.main(["status", "--store", store, "--at-least", "0.1"]) == 1  # nothing is no proof of anything
    record = finished(tmp_path)
    counts = record.counts
    assert counts is not None
    share = counts.robust_correct / counts.total
    assert 0.0 < share < 1.0
    assert cli.main(["status", "--store", store, "--at-least", str(share / 2)]) == 0
    assert cli.main(["status", "--store", store, "--at-least", str(share)]) == gate.UNDECIDED
    capsys.readouterr()
    assert cli.main(["status", "--store", store, "--at-least", str(min(1.0, 2 * share))]) == 1
    told = f"below  digits/linear seed 0, linf 1/10: robust {counts.robust_correct} of {counts.total}, "
    assert told in capsys.readouterr().out


def test_status_as_json_is_what_the_records_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = finished(tmp_path)
    wrong = finished(tmp_path, system=SystemConfig(init_from="nowhere"))
    assert cli.main(["status", "--store", str(tmp_path / "results"), "--json", "--at-least", "0"]) == 1
    told = json.loads(capsys.readouterr().out)
    cells = {cell["key"]: cell for cell in told["cells"]}
    assert cells.keys() == {record.key, wrong.key}
    assert record.counts is not None
    assert cells[record.key]["robust_accuracy"] == record.counts.robust_correct / record.counts.total
    assert cells[record.key]["threat"]["eps_exact"] == "1/10"
    assert read_record(Path(cells[record.key]["folder"])) == record
    assert cells[wrong.key]["robust_accuracy"] is None
    assert cells[wrong.key]["error"].startswith("system.init_from is 'nowhere'")
    assert "Traceback" in cells[wrong.key]["traceback"]
    (failed,) = told["below"]
    assert failed.startswith(f"{wrong.name} failed: system.init_from is 'nowhere'")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plugins", "atack"], "'atack' is not a kind of plugin; expected one of dataset, model, attack"),
        (["plugins", "check"], "benchmark plugins check needs the name of a plugin, such as attack.pgd"),
        (["plugins", "check", "pgd"], "'pgd' is not a plugin's name; expected KIND.NAME, such as attack.pgd"),
        (["plugins", "attack.pdg"], "no plugin named 'attack.pdg'; "),
        (["plugins", "attack", "pdg"], "Did you mean attack.pdpgd, attack.pgd"),
        (["status", "--store", "nowhere"], "there is no folder nowhere; name the store with --store"),
        (["status", "--at-least", "40"], "--at-least is 40.0; expected a share between 0 and 1, such as 0.4"),
        (["leaderboard", "build", "--results", "nowhere"], "there is no nowhere; name folders of cells"),
        (["leaderboard", "build", "--board", "linf"], "--board chooses what goes into --single-file; give both"),
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
    package, _, last = name.rpartition(".")
    module = ModuleType(name)
    for function, value in functions.items():
        setattr(module, function, value)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(importlib.import_module(package), last, module, raising=False)


def test_run_hands_its_words_on_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    fake(monkeypatch, "benchmark.sweep.app", main=noting(seen, 0), complete=noting(seen, 7))
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

    fake(monkeypatch, "benchmark.sweep.app", main=fail)
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err == "benchmark: data/mnist misses a file\n"
    fake(monkeypatch, "benchmark.sweep.app", main=interrupt)
    assert cli.main(["run"]) == 130


def test_other_commands_get_their_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    fake(monkeypatch, "benchmark.commands.status", main=noting(seen, 0))
    fake(monkeypatch, "benchmark.commands.verify", main=noting(seen, 1))
    assert cli.main(["status"]) == 0
    assert cli.main(["verify", "a", "b", "--store", "s"]) == 1
    assert cli.main(["verify", "a", "--distances", "--again", "3", "--seed", "7", "--input", "w"]) == 1
    assert seen == [
        (Path("results"), False, None, False, False),
        (["a", "b"], "s", "data", False, 0, 0, ()),
        (["a"], "results", "data", True, 3, 7, [Path("w")]),
    ]


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
