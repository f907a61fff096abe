"""Imports that `[tool.importlinter]` does not see: what stays out of the site and of cheap commands."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Runner
from tests.house.checkout import python_files, tree

HEAVY = ("torch", "hydra", "pytorch_lightning", "wandb", "sklearn", "torchmetrics")


def imported(node: ast.AST) -> list[str]:
    """The absolute modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    return []


def names(nodes: Iterator[ast.AST], tops: tuple[str, ...]) -> list[str]:
    return [name for node in nodes for name in imported(node) if name.partition(".")[0] in tops]


REPLAYS = "leaderboard/review/foreign.py"
"""The one command of the leaderboard that runs a system, by ONNX Runtime; it imports torch only then."""


@pytest.mark.parametrize("file", [file for file in python_files("leaderboard") if str(file) != REPLAYS], ids=str)
def test_the_leaderboard_reads_records_and_runs_nothing(file: Path) -> None:
    found = names(ast.walk(tree(file)), ("torch", "hydra", "wandb", "sklearn", "benchmark_plugins", "plugins", "tests"))
    assert not found, f"{file} imports {found}; the site is built from records alone"


CHEAP = {
    "import": "import benchmark",
    "records": "import benchmark.records.record, benchmark.records.store, benchmark.records.findings",
    "leaderboard": "import benchmark_leaderboard.build",
    "help": "from benchmark.cli import main; main(['--help'])",
    "run help": "from benchmark.cli import main; main(['run', '--help'])",
    "plugins": "from benchmark.cli import main; main(['plugins'])",
    "status": "from benchmark.cli import main; main(['status', '--store', '.'])",
}


@pytest.mark.parametrize("what", CHEAP)
def test_what_is_cheap_loads_nothing_heavy(what: str, run_python: Runner) -> None:
    heavy = HEAVY if what != "leaderboard" else tuple(h for h in HEAVY if h != "sklearn")
    code = (
        f"import sys\ntry:\n    {CHEAP[what]}\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(' '.join(sorted(set(sys.modules) & set({heavy!r}))))"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", f"{what} loads {done.stderr}"
    assert sys.version_info >= (3, 11)
