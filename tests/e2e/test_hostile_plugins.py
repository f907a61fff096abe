"""Plugins that do harm to the process, in one sweep with honest cells: each is named, and no honest cell differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hostile import AT_IMPORT, CELL, ENDS, KILLS, LEAVES, install, interleaved, judged
from tests.e2e.commands import benchmark, environment

HONEST = ("fgsm", "pgd")
PLUGINS = {**LEAVES, **ENDS, "crashes": KILLS["crashes"]}


def test_twenty_hostile_plugins_change_no_honest_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(PLUGINS) >= 20
    install(tmp_path / "site", PLUGINS, AT_IMPORT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    assert environment()["PYTHONPATH"] == str(tmp_path / "site")
    mixed, alone = tmp_path / "mixed", tmp_path / "alone"
    attacks = interleaved([*PLUGINS, *AT_IMPORT], HONEST)
    done = benchmark(mixed, "run", "-m", f"attack={attacks}", *CELL, check=False)
    assert done.returncode == 1, done.stderr
    benchmark(alone, "run", "-m", f"attack={','.join(HONEST)}", *CELL)
    assert judged(mixed, alone, PLUGINS) == (len(HONEST), [])
    for name, (_, sentence) in AT_IMPORT.items():
        assert f"plugin 'attack.{name}' from hostile 1.0 {sentence}" in done.stderr
    assert (mixed / "results" / "leaderboard" / "index.html").is_file()
