"""Plugins that do harm to the process, in one sweep with honest cells: each is named, and no honest cell differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.commands import benchmark, environment, files, records

HEAD = """
import os, random, signal, sys, time, warnings
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
import torch
from benchmark import hookimpl
from benchmark.api import Attack, Supports


@dataclass(frozen=True)
class Hostile(Attack):
    supports: ClassVar[Supports] = Supports()

    def perturb(self, target, x, y, *, threat, rng):
        {body}
        return x.clone()


{top}


@hookimpl
def benchmark_component():
    return Hostile
"""

LEAVES = {
    "gradients_off": ("torch.set_grad_enabled(False)", "gradient mode"),
    "inference": ("mode = globals()['mode'] = torch.inference_mode(); mode.__enter__()", "inference mode"),
    "doubles": ("torch.set_default_dtype(torch.float64)", "default dtype"),
    "device": ("torch.set_default_device('meta')", "default device"),
    "threads": ("torch.set_num_threads(3)", "threads"),
    "determinism": ("torch.use_deterministic_algorithms(True, warn_only=True)", "deterministic algorithms"),
    "denormals": ("torch.set_flush_denormal(True)", "flushing of denormal numbers"),
    "hooks": ("torch.nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 0)", "hooks on every module"),
    "warnings": ("warnings.simplefilter('error')", "filters of warnings"),
    "numpy": ("np.seterr(all='raise')", "error state of numpy"),
    "folder": ("os.chdir('/')", "working folder"),
    "variable": ("os.environ['OMP_PLANTED'] = '7'", "environment (OMP_PLANTED)"),
    "signals": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signal handlers (SIGTERM)"),
    "streams": ("sys.stdout = None", "standard streams"),
}
"""What a plugin leaves behind, and the word for it."""

ENDS = {
    "draws": ("torch.manual_seed(0); random.seed(0); np.random.seed(0)", "drew from a global random generator"),
    "leaves": ("sys.exit(0)", "raised SystemExit(0), which ends the process"),
    "interrupts": ("raise KeyboardInterrupt", "raised KeyboardInterrupt(), which ends the process"),
}
"""How a plugin would end the sweep, and what is said instead."""

KILLS = {
    "exits": ("os._exit(0)", "the process died (exit code 0), in each of 2 attempts"),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "the process died (signal 11 (SIGSEGV)), in each of 2"),
}

AT_IMPORT = {"leaves_at_import": ("sys.exit(3)", "raised SystemExit(3), which ends the process")}

HONEST = ("fgsm", "pgd")
WORDS = ("model=linear", "training.epochs=1", "metric=[robust_accuracy]", "examples=24", "tracker=[]", "batch_size=12")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Install the plugins; their names."""
    folder = tmp_path / "site"
    info = folder / "hostile-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    plugins = {**LEAVES, **ENDS, **KILLS}
    for name, (body, _) in plugins.items():
        (folder / f"hostile_{name}.py").write_text(HEAD.format(body=body, top=""))
    for name, (top, _) in AT_IMPORT.items():
        (folder / f"hostile_{name}.py").write_text(HEAD.format(body="", top=top))
    names = [*plugins, *AT_IMPORT]
    points = [f"attack.{name} = hostile_{name}" for name in names]
    points += [
        "attack.pgd_twin = benchmark_plugins.attacks.pgd",
        "attack.apgd = colorsys",
        "attack.../../etc = colorsys",
    ]
    (info / "entry_points.txt").write_text("[benchmark]\n" + "\n".join(points) + "\n")
    broken = folder / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("this is [no file\nof entry points\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert environment()["PYTHONPATH"] == str(folder)
    return names


def test_twenty_hostile_plugins_change_no_honest_cell(tmp_path: Path, hostile: list[str]) -> None:
    assert len(hostile) >= 20
    mixed, alone = tmp_path / "mixed", tmp_path / "alone"
    attacks = ",".join([*hostile[:10], HONEST[0], *hostile[10:], HONEST[1]])
    done = benchmark(mixed, "run", "-m", f"attack={attacks}", *WORDS, check=False)
    assert done.returncode == 1, done.stderr
    benchmark(alone, "run", "-m", f"attack={','.join(HONEST)}", *WORDS)
    found = records(mixed)
    honest = {key: record for key, record in found.items() if record["attack"]["name"] in HONEST}
    assert honest == records(alone)
    assert len(honest) == len(HONEST)
    assert {name: content for name, content in files(mixed).items() if name.partition("/")[0] in honest} == files(alone)
    said = {record["attack"]["name"]: str(record["error"]) for record in found.values() if record["key"] not in honest}
    for name, (_, sentence) in {**LEAVES, **ENDS, **KILLS}.items():
        assert sentence in said[name], (name, said[name])
        assert name in KILLS or f"attack.{name} from hostile 1.0" in said[name]
    for name, (_, sentence) in AT_IMPORT.items():
        assert f"plugin 'attack.{name}' from hostile 1.0 {sentence}" in done.stderr
    assert (mixed / "results" / "leaderboard" / "index.html").is_file()
