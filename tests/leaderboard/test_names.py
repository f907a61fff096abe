"""One noun, one thing: no public name is defined in two modules of the leaderboard."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.house.checkout import python_files, tree

ENTRY_POINT = "main"
"""The function of a module that the command line calls, under one name in all of them."""


def defined(body: list[ast.stmt]) -> Iterator[str]:
    """The public names that a module defines at its top level."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_") and name != ENTRY_POINT)


def test_no_public_name_is_defined_in_two_modules() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for file in python_files("leaderboard"):
        for name in set(defined(tree(file).body)):
            homes[name].append(str(file))
    assert len(homes) > 100
    twice = {name: files for name, files in homes.items() if len(files) > 1}
    assert not twice, f"defined in more than one module, rename all but one: {twice}"
