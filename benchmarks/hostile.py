"""Plugins that do harm to the process or the store, in one sweep with forty honest cells, under each way to run it.

Every honest cell stands behind hostile ones; its record, outcomes and witness must have the bytes of a sweep without
them, timings aside, and what is said of each hostile cell must name the plugin and what it did. Sweeps are run by
Hydra's `basic` and `joblib` launchers and by a task of `benchmark work`, each with the cells in shared processes, and
with limits of time and memory, which give each cell a process of its own (with the plugins that only this stops). A
plugin that deletes what other cells wrote cannot be stopped: the sweep is run a second time, which mends it.
`python -m benchmarks.hostile WORK --out benchmarks/results/hostile.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.records.store import Store
from tests.e2e.commands import environment, files, records

__all__ = ["AT_IMPORT", "CELL", "ENDS", "KILLS", "LEAVES", "install", "interleaved", "judged"]

HEAD = """
import atexit, builtins, ctypes, locale, os, random, resource, shutil, signal, sys, threading, time, warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import numpy as np
import torch
from benchmark import hookimpl
from benchmark.api import Attack, Supports


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("planted")

    __repr__ = __str__


class Silent(BaseException):
    __repr__ = __str__ = Speechless.__str__


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
    "mode": (
        "mode = globals()['mode'] = torch.overrides.BaseTorchFunctionMode(); mode.__enter__()",
        "function modes of torch",
    ),
    "warnings": ("warnings.simplefilter('error')", "filters of warnings"),
    "numpy": ("np.seterr(all='raise')", "error state of numpy"),
    "folder": ("os.chdir('/')", "working folder"),
    "variable": ("os.environ['OMP_PLANTED'] = '7'", "environment (OMP_PLANTED)"),
    "signals": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signal handlers (SIGTERM)"),
    "alarm": ("signal.setitimer(signal.ITIMER_REAL, 0.2)", "timers"),
    "streams": ("sys.stdout = None", "standard streams"),
    "closes": ("sys.stdout.close()", "standard streams"),
    "closes_file": ("os.close(1); os.close(2)", "files of the standard streams"),
    "umask": ("os.umask(0o777)", "mask of new files"),
    "limits": ("resource.setrlimit(resource.RLIMIT_NOFILE, (9, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
               "resource limits"),
    "patches_torch": ("torch.nn.functional.cross_entropy = torch.clamp = lambda *a, **k: None",
                      "functions (torch.clamp, torch.nn.functional.cross_entropy)"),
    "patches_tensor": ("torch.Tensor.argmax = torch.Tensor.sum", "functions (torch.Tensor.argmax)"),
    "patches_numpy": ("np.mean = np.asarray; builtins.sum = max", "functions (builtins.sum, numpy.mean)"),
    "exit_handler": ("atexit.register(os._exit, 3)", "exit handlers"),
    "thread": (
        "threading.Thread(target=time.sleep, args=(1e6,), name='planted', daemon=True).start()",
        "threads of Python (still running: planted)",
    ),
}  # fmt: skip
"""What a plugin leaves behind, and the word for it."""

ENDS = {
    "draws": ("torch.manual_seed(0); random.seed(0); np.random.seed(0)", "drew from a global random generator"),
    "leaves": ("sys.exit(0)", "raised SystemExit(0), which ends the process"),
    "interrupts": ("raise KeyboardInterrupt", "raised KeyboardInterrupt(), which ends the process"),
    "generator_exit": ("raise GeneratorExit('planted')", "raised GeneratorExit(planted), which ends the process"),
    "base": ("raise BaseException('planted')", "raised BaseException(planted), which ends the process"),
    "silent": ("raise Silent", "raised Silent("),
    "speechless": ("raise Speechless", "raised Speechless"),
    "forks": ("os.fork()", "forked the process and returned in both"),
}
"""How a plugin would end or double the sweep, and what is said instead."""

KILLS = {
    "exits": ("os._exit(0)", "in each of 2 attempts"),
    "crashes": ("ctypes.string_at(0)", "the process died (signal 11 (SIGSEGV)), in each of 2"),
    "aborts": ("os.kill(os.getpid(), signal.SIGKILL)", "the process died (signal 9 (SIGKILL)), in each of 2"),
}

AT_IMPORT = {"leaves_at_import": ("sys.exit(3)", "raised SystemExit(3), which ends the process")}

APART = {
    "meddles": (
        "threading.Thread(target=lambda: [(torch.set_default_dtype(torch.float64), time.sleep(0.001))"
        " for _ in iter(int, 1)], name='planted', daemon=True).start()",
        "changed process state that other plugins share",
    ),
    "endless": ("time.sleep(1e6)", "it took longer than cell.timeout allows"),
    "hoards": (
        "kept = globals()['kept'] = []; [(kept.append(bytearray(10**8)), time.sleep(0.02)) for _ in iter(int, 1)]",
        "more than cell.memory allows",
    ),
}
"""What only limits end, or a process for each cell."""

STORE = {
    "litters": (
        "cells = Path('results/cells'); (cells / 'planted').mkdir(parents=True, exist_ok=True); "
        "(cells / 'planted' / 'record.json').write_text('{'); (cells / '.leaderboard.x').mkdir(exist_ok=True); "
        "[Path('results', name, 'planted').mkdir(parents=True, exist_ok=True) for name in ('work', 'systems')]",
        "",
    ),
    "deletes": (
        "Path('deleted').exists() or [Path('deleted').touch(), shutil.rmtree('results/cells', True), "
        "shutil.rmtree('results/systems', True), shutil.rmtree('results/index', True)]",
        "",
    ),
}  # fmt: skip
"""What is done to the store; nothing of it is a fault of the process."""

HONEST = (
    "fgsm", "pgd", "noise", "bim", "mi_fgsm", "ni_fgsm", "vmi_fgsm", "si_fgsm", "ti_fgsm", "di_fgsm", "apgd",
    "deepfool", "fmn", "fab", "square", "negative", "spsa", "none", "universal", "pgd_10", "pgd_classic",
    "pgd_training", "apgd_20", "apgd_margin_targeted", "square_200", "parsimonious", "uniform_noise",
    "gaussian_noise", "shot_noise", "jpeg", "salt_and_pepper", "brightness", "contrast", "blur", "downsampling",
    "rotation", "scale", "translation", "crop", "spatial_grid",
)  # fmt: skip
CELL = ("model=linear", "training.epochs=1", "metric=[robust_accuracy]", "examples=24", "batch_size=12", "tracker=[]")
BOUND = ("cell.timeout=60", "cell.memory=3GB")

LAUNCHERS: dict[str, Sequence[str]] = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "work": (),
}


def install(folder: Path, plugins: Mapping[str, tuple[str, str]], at_import: Mapping[str, tuple[str, str]]) -> None:
    """Make a distribution of the plugins, and one whose list of entry points is no such list, below a folder.

    Put the folder on the path of Python to install them.
    """
    info, broken = folder / "hostile-1.0.dist-info", folder / "broken-1.0.dist-info"
    for one in (info, broken):
        one.mkdir(parents=True)
        (one / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {one.name.partition('-')[0]}\nVersion: 1.0\n")
    for name, (body, _) in plugins.items():
        (folder / f"hostile_{name}.py").write_text(HEAD.format(body=body, top=""))
    for name, (top, _) in at_import.items():
        (folder / f"hostile_{name}.py").write_text(HEAD.format(body="", top=top))
    points = [f"attack.{name} = hostile_{name}" for name in (*plugins, *at_import)]
    points += [
        "attack.pgd_twin = benchmark_plugins.attacks.pgd",
        "attack.alma = colorsys",
        "attack.../../etc = colorsys",
    ]
    (info / "entry_points.txt").write_text("[benchmark]\n" + "\n".join(points) + "\n")
    (broken / "entry_points.txt").write_text("this is [no file\nof entry points\n")


def interleaved(hostile: Sequence[str], honest: Sequence[str]) -> str:
    """Names of both, such that hostile ones stand before each honest one."""
    share = len(hostile) / len(honest)
    order = [(place, name) for place, name in enumerate(hostile)]
    order += [((place + 1) * share - 0.5, name) for place, name in enumerate(honest)]  # type: ignore[misc]
    return ",".join(name for _, name in sorted(order))


@dataclass
class Swept:
    """Result of one way to run the sweep. wrong: sentences, empty if all is as it must be."""

    name: str
    hostile: int
    honest: int = 0
    wrong: list[str] = field(default_factory=list)


def sweep(folder: Path, launcher: str, words: Sequence[str], *, again: bool) -> str:
    """Run a sweep, and if asked once more; what was said in the first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if launcher == "work":
        command("plan", *words, folder=folder)
        words = ("work", "plan.jsonl")
    else:
        words = ("run", "-m", *words, *LAUNCHERS[launcher])
    first = command(*words, folder=folder)
    codes = {first.returncode, (command(*words, folder=folder) if again else first).returncode}
    return first.stdout + ("" if codes == {1} else f"\nexit codes {codes}\n")


def command(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`benchmark WORDS` in a folder, however long it takes."""
    line = [sys.executable, "-m", "benchmark", *words]
    return subprocess.run(
        line, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def swept(
    work: Path, launcher: str, honest_ones: Sequence[str], plugins: Mapping[str, tuple[str, str]], bound: Sequence[str]
) -> Swept:
    """Run the honest cells with the plugins, and compare with the sweep without them."""
    found = Swept(named(launcher, bound), len(plugins))
    folder = work / f"{launcher}-{'bound' if bound else 'shared'}"
    attacks = interleaved([*plugins, *AT_IMPORT], honest_ones)
    said = sweep(folder, launcher, (f"attack={attacks}", *CELL, *bound), again="deletes" in plugins)
    (folder / "said.txt").write_text(said)
    found.wrong += [] if "attack.leaves_at_import" in said else ["leaves_at_import: not named"]
    found.wrong += [] if "\nexit codes" not in said else ["another exit code than 1"]
    store = Store(folder / "results")
    if "litters" in plugins:
        found.wrong += [] if set(store.unreadable()) == {"planted"} else [f"unreadable: {store.unreadable()}"]
        shutil.rmtree(folder / "results" / "cells" / "planted")
    unfinished = [str(note.get("name")) for note in store.unfinished()]
    found.wrong += [f"unfinished: {name}" for name in unfinished if name.split()[1:2] == ["linear"]]
    found.honest, wrong = judged(folder, work / "alone", plugins)
    found.wrong += wrong
    return found


def judged(folder: Path, alone_in: Path, plugins: Mapping[str, tuple[str, str]]) -> tuple[int, list[str]]:
    """Number of honest cells of a sweep, and what is wrong with them or with what is said of the others."""
    there, alone = records(folder), records(alone_in)
    honest = {key: record for key, record in there.items() if record["attack"]["name"] not in plugins}
    wrong = [f"lost: {alone[key]['attack']['name']}" for key in alone.keys() - honest.keys()]
    wrong += [f"differs: {alone[key]['attack']['name']}: {honest[key]['error']}"
              for key in alone.keys() & honest.keys() if honest[key] != alone[key]]  # fmt: skip
    kept = {name: content for name, content in files(folder).items() if name.partition("/")[0] in honest}
    wrong += [] if kept == files(alone_in) else ["outcomes or witnesses differ"]
    of: dict[str, list[str]] = {}
    for record in there.values():
        of.setdefault(record["attack"]["name"], []).append(str(record["error"]))
    for name, (_, sentence) in plugins.items():
        named = "" if name in KILLS or "cell." in sentence else f"attack.{name} from hostile 1.0"
        told = len(of.get(name, ())) == 1 and all(sentence in one and named in one for one in of[name])
        wrong += [] if told or name in STORE else [f"{name}: {of.get(name)}"]
    return len(honest), wrong


def main() -> None:
    """Run the sweeps and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="folder of the sweeps, which go on where they stopped")
    parser.add_argument("--launchers", nargs="+", choices=LAUNCHERS, default=list(LAUNCHERS))
    parser.add_argument("--only", nargs="+", help="of the hostile plugins")
    parser.add_argument("--honest", type=int, default=len(HONEST), help="honest cells")
    parser.add_argument("--shared", action="store_true", help="only with the cells in shared processes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work.resolve()
    every = {**LEAVES, **ENDS, **KILLS, **STORE, **APART}
    if options.only:
        every = {name: every[name] for name in options.only}
    if not (work / "site").is_dir():
        install(work / "site", every, AT_IMPORT)
    os.environ["PYTHONPATH"] = str(work / "site")
    honest = HONEST[: options.honest]
    (work / "alone").mkdir(exist_ok=True)
    command("run", "-m", f"attack={','.join(honest)}", *CELL, folder=work / "alone")
    log = work / "swept.jsonl"
    for launcher in options.launchers:
        unbound = {name: plugin for name, plugin in every.items() if name not in APART}
        ways = ((unbound, ()), ({**KILLS, **APART}, BOUND))
        for plugins, bound in ways[: 1 if options.shared else 2]:
            if named(launcher, bound) not in [one.name for one in read(log)]:
                found = swept(work, launcher, honest, plugins, bound)
                with log.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(vars(found)) + "\n")
    if options.out:
        write_page(options.out, read(log), every)
    raise SystemExit(any(one.wrong for one in read(log)))


def named(launcher: str, bound: Sequence[str]) -> str:
    """Name of a way to run the sweep."""
    return f"{launcher}, {'a process for each cell' if bound else 'shared processes'}"


def read(log: Path) -> list[Swept]:
    """Sweeps so far."""
    return [Swept(**json.loads(line)) for line in log.read_text("utf-8").splitlines()] if log.is_file() else []


def write_page(path: Path, found: Sequence[Swept], every: Mapping[str, Any]) -> None:
    """Write the table, and what each plugin does."""
    from benchmarks.timing import machine, table, write

    rows = [(o.name, str(o.hostile + len(AT_IMPORT)), str(o.honest), str(len(o.wrong))) for o in found]
    head = ("sweep", "hostile plugins", "honest cells", "wrong")
    said = [(name, f"`{body}`", sentence) for name, (body, sentence) in {**every, **AT_IMPORT}.items()]
    wrong = "".join(f"- {one.name}: {sentence}\n" for one in found for sentence in one.wrong)
    text = f"# Hostile plugins\n\n{__doc__}\n{machine('cpu')}\n\n{table(head, rows)}\n\n"
    text += table(("plugin", "what it does", "what is said"), said) + "\n" + (f"\nWrong:\n\n{wrong}" if wrong else "")
    write(path, text)


if __name__ == "__main__":
    main()
