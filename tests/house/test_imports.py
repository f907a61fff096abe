"""Who may import whom, and what stays out of cheap commands."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Runner
from tests.house.checkout import python_files, tree

FOREIGN = ("benchmark_plugins", "benchmark_leaderboard", "plugins", "leaderboard", "tests")
HEAVY = ("torch", "hydra", "pytorch_lightning", "wandb", "sklearn", "torchmetrics")


def imported(node: ast.AST) -> list[str]:
    """The absolute modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    return []


def at_top(module: ast.Module) -> Iterator[ast.AST]:
    """The statements that run when a module is imported; a TYPE_CHECKING block does not."""
    todo: list[ast.AST] = list(module.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        todo += list(ast.iter_child_nodes(node))


def names(nodes: Iterator[ast.AST], tops: tuple[str, ...]) -> list[str]:
    return [name for node in nodes for name in imported(node) if name.partition(".")[0] in tops]


@pytest.mark.parametrize("file", python_files("benchmark"), ids=str)
def test_the_core_knows_no_plugin_and_calls_the_leaderboard_late(file: Path) -> None:
    found = names(at_top(tree(file)), FOREIGN)
    assert not found, f"{file} imports {found} at the top; plugins are reached through the registry"
    anywhere = names(ast.walk(tree(file)), tuple(f for f in FOREIGN if f != "benchmark_leaderboard"))
    assert not anywhere, f"{file} imports {anywhere}; plugins are reached through the registry"


@pytest.mark.parametrize("file", python_files("plugins"), ids=str)
def test_a_plugin_imports_the_contracts_and_its_siblings_only(file: Path) -> None:
    found = names(ast.walk(tree(file)), FOREIGN)
    assert not found, f"{file} imports {found}; write relative imports for siblings"


@pytest.mark.parametrize("file", python_files("leaderboard"), ids=str)
def test_the_leaderboard_reads_records_and_runs_nothing(file: Path) -> None:
    found = names(ast.walk(tree(file)), ("torch", "hydra", "wandb", "sklearn", "benchmark_plugins", "plugins", "tests"))
    assert not found, f"{file} imports {found}; the site is built from records alone"


def test_the_rule_sees_what_it_forbids() -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\ndef f():\n    import hydra\n"
    assert names(at_top(ast.parse(text)), HEAVY) == []
    assert names(at_top(ast.parse(text + "class A:\n    from torch import nn\n")), HEAVY) == ["torch"]
    assert names(ast.walk(ast.parse(text)), HEAVY) == ["torch", "hydra"]


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
