"""Trials of a command: runs in forks of a process that has imported everything, killed at chosen or random moments.

A library that is preloaded into every process of a trial (`kill_at.c`) counts what changes its files.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Page", "descendants", "end_all", "ended", "killed_within", "preloaded", "start", "warm"]

PAGE = "KILL_AT_PAGE"
WARM = (
    "benchmark.run",
    "benchmark.stages.learn",
    "benchmark.stages.fitting",
    "benchmark.sweep.app",
    "benchmark.sweep.planned",
    "hydra.main",
    "lightning_fabric",
    "pytorch_lightning",
    "torch._dynamo",
    "torchmetrics",
    "wandb",
    "wandb.sdk.wandb_run",
)
"""Modules that a run imports."""

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 900.0
"""Seconds after which a run counts as stuck, also on a machine that has much else to do."""


class Page:
    """The memory that `kill_at.c` shares between all processes of a trial."""

    SIZE, WHAT, ROOT = 4096, slice(16, 528), slice(528, 3600)

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), self.SIZE)

    def watch(self, root: Path | None, at: int = 0) -> None:
        """Count from zero what changes files below a folder, and kill before the operation of this number; 0: none."""
        self.memory[:] = bytes(self.SIZE)
        self.memory[:8] = struct.pack("q", at)
        content = b"" if root is None else os.fsencode(f"{root}/")
        self.memory[self.ROOT] = content.ljust(self.ROOT.stop - self.ROOT.start, b"\0")

    @property
    def count(self) -> int:
        """Number of operations so far."""
        return int(struct.unpack("q", self.memory[8:16])[0])

    @property
    def what(self) -> str:
        """The operation before which a process was killed, or the last one."""
        return self.memory[self.WHAT].split(b"\0")[0].decode(errors="replace")


def preloaded(work: Path) -> Page:
    """Page of this process, which starts itself anew with the library if it does not have it yet."""
    work.mkdir(parents=True, exist_ok=True)
    if PAGE not in os.environ:
        library, page = work / "kill_at.so", work / "page"
        source = Path(__file__).with_name("kill_at.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        page.write_bytes(bytes(Page.SIZE))
        fixed = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
        os.environ.update({**fixed, "LD_PRELOAD": str(library), PAGE: str(page)})
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of a killed process become ours
    return Page(Path(os.environ[PAGE]))


def warm() -> None:
    """Import what a run needs, and read what is the same for all runs; workers of joblib become forks, too."""
    for name in WARM:
        importlib.import_module(name)
    from hydra.core.plugins import Plugins
    from joblib.externals.loky.backend.context import set_start_method

    from benchmark.registry.origin import harness_version

    set_start_method("fork")
    Plugins.instance()
    for part in ("system", "cell"):
        harness_version(part)


def start(folder: Path, commands: Sequence[Sequence[str]], *, ready: bool = True) -> int:
    """Begin commands, one after the other, in a folder; returns the process, a fork.

    What they say is added to the file beside the folder, with the suffix `.txt`.

    Args:
        ready: fork this process, which has imported what a run needs, instead of starting Python once more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        said = os.open(folder.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        assert isinstance(sys.stdout, io.TextIOWrapper)
        sys.stdout.reconfigure(line_buffering=True)
        for words in commands:
            if not ready:
                code = subprocess.call([sys.executable, "-m", "benchmark", *words])
            else:
                from benchmark.cli import main

                code = main(words)
            sys.stdout.flush()
            if code:
                break
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def descendants() -> list[int]:
    """Living processes that this one started, and those that they started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found = [os.getpid()]
    for process in found:
        found += children.get(process, [])
    return found[1:]


def ended(process: int, patience: float = PATIENCE) -> int | None:
    """Exit code of a process, negative for a signal; None if it does not end in time."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        pid, status = os.waitpid(process, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def end_all() -> None:
    """Kill what a trial left running, and collect it."""
    while found := descendants():
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def killed_within(process: int, seconds: float, moment: random.Random) -> str:
    """Kill one process of a trial, or one time in three all, at a random moment; returns which, "" if it had ended."""
    time.sleep(moment.uniform(0.0, seconds))
    found = descendants()
    if process not in found:
        return ""
    chosen = found if moment.random() < 1 / 3 else [moment.choice(found)]
    for one in chosen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    return "all" if len(chosen) > 1 else "head" if chosen == [process] else "a process below the head"
