"""Lines outside its own file that have to be read to understand an attack."""

import ast
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests.house.checkout import ROOT

ATTACKS = ROOT / "plugins" / "attacks"

BUDGET = 300
"""Lines of functions, methods and constants, docstrings included, that an attack may reach in other files."""

OVER = {
    "adaptive": 760,  # runs APGD and Square
    "autoattack": 1040,  # runs APGD, FAB and Square
    "carlini_wagner": 375,  # the weight of the scores, and the nearest class where a margin is flat
    "corruption": 565,  # nineteen methods, of which a choice runs one
    "ead": 395,  # as carlini_wagner, whose objectives it takes
    "fmn": 315,  # the nearest class, by slopes of any scale
    "lbfgs": 310,  # as carlini_wagner
    "pdpgd": 310,  # as fmn
}
"""Attacks that reach more, each with a budget of its own: to be lowered, never raised."""


@dataclass
class Module:
    """Definitions of a module, and what it imports from modules beside it, by name."""

    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, tuple[Path, str]] = field(default_factory=dict)


@cache
def module(path: Path) -> Module:
    found = Module()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            file = path.parents[node.level - 1].joinpath(*(node.module or "").split(".")).with_suffix(".py")
            found.imports |= {alias.asname or alias.name: (file, alias.name) for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            found.definitions |= dict.fromkeys(names, node)
    return found


def length(node: ast.stmt) -> int:
    """Number of lines, decorators included."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return int(node.end_lineno or first) - int(first) + 1


@dataclass
class Reading:
    """Code that has been read. lines: of each definition and method. named: attributes that were mentioned.

    A method is read when something read mentions its name; `waiting` has those that nothing mentioned yet.
    """

    lines: dict[tuple[Path, str], int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    waiting: dict[str, list[tuple[Path, str, ast.stmt]]] = field(default_factory=lambda: defaultdict(list))

    def definition(self, path: Path, name: str) -> None:
        """Read a definition of a module and whatever it reaches."""
        node = module(path).definitions.get(name)
        if node is None or (path, name) in self.lines:
            return
        self.lines[path, name] = length(node)
        if not isinstance(node, ast.ClassDef):
            self.code(path, node)
            return
        for part in [*node.decorator_list, *node.bases, *node.body]:
            if not isinstance(part, ast.FunctionDef) or part.name.startswith("__"):
                self.code(path, part)
                continue
            self.lines[path, name] -= length(part) + 1  # and the blank line before it
            if part.name in self.named:
                self.method(path, name, part)
            else:
                self.waiting[part.name].append((path, name, part))

    def method(self, path: Path, owner: str, node: ast.stmt) -> None:
        """Read a method and whatever it reaches."""
        self.lines[path, f"{owner}.{getattr(node, 'name', '')}"] = length(node)
        self.code(path, node)

    def code(self, path: Path, node: ast.AST) -> None:
        """Follow the names in a piece of code."""
        for each in ast.walk(node):
            if isinstance(each, ast.Attribute) and each.attr not in self.named:
                self.named.add(each.attr)
                for waiting in self.waiting.pop(each.attr, []):
                    self.method(*waiting)
            elif isinstance(each, ast.Name):
                place, name = module(path).imports.get(each.id, (path, each.id))
                if place.exists():
                    self.definition(place, name)


def lines_read(attack: Path) -> int:
    """Lines outside its file that the attack reaches, directly or through others."""
    reading = Reading()
    for name in module(attack).definitions:
        reading.definition(attack, name)
        reading.code(attack, module(attack).definitions[name])
    return sum(count for (path, _), count in reading.lines.items() if path != attack)


@pytest.mark.parametrize("attack", sorted(ATTACKS.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_an_attack_reads_few_lines_of_helpers(attack: Path) -> None:
    read, most = lines_read(attack), OVER.get(attack.stem, BUDGET)
    assert read <= most, (
        f"{attack.name} reaches {read} lines of helpers, at most {most}; move what it alone uses into its file, or "
        "shorten what it calls"
    )


def test_only_attacks_above_the_budget_have_one_of_their_own() -> None:
    for name, most in OVER.items():
        assert BUDGET < lines_read(ATTACKS / f"{name}.py") > most - 25, name


def test_what_is_counted(tmp_path: Path) -> None:
    (tmp_path / "_base").mkdir()
    (tmp_path / "_base" / "vectors.py").write_text(
        'SIZE = 3\n\n\ndef used(x):\n    """A line."""\n    return unused_elsewhere(x) * SIZE\n\n\n'
        "def unused_elsewhere(x):\n    return x\n\n\ndef never(x):\n    return x\n\n\n"
        "class Rows:\n    count: int = 0\n\n    def called(self):\n        return self.other()\n\n"
        "    def other(self):\n        return 1\n\n    def not_called(self):\n        return 2\n",
    )
    attack = tmp_path / "attack.py"
    attack.write_text("from ._base.vectors import Rows, used\n\n\ndef f(x):\n    return used(x) + Rows().called()\n")
    # SIZE, used, unused_elsewhere; class and field; called, other.
    assert lines_read(attack) == 1 + 3 + 2 + 2 + 2 + 2
