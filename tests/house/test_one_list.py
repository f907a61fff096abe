"""The kinds of plugin and the norms are listed where docs/design.md says, and nowhere else."""

import ast
from collections.abc import Iterator

from benchmark.api import KINDS, Norm
from tests.house.checkout import ROOT, files

PARTS = ("benchmark", "leaderboard")
NORMS = {norm.value for norm in Norm}
ROWS = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").splitlines()


def collections(word: str) -> Iterator[tuple[str, set[str]]]:
    """File and words of every tuple, list, set and dictionary in core and site whose module mentions the word."""
    for file in files():
        text = (ROOT / file).read_text(encoding="utf-8") if file.suffix == ".py" and file.parts[0] in PARTS else ""
        if word in text:
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Tuple | ast.List | ast.Set):
                    yield file.as_posix(), {*map(word_of, node.elts)}
                elif isinstance(node, ast.Dict):
                    yield file.as_posix(), {word_of(key) for key in node.keys if key is not None}


def word_of(node: ast.expr) -> str:
    """A string constant, or the name of a member such as `Norm.l2`."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else getattr(node, "attr", "")


def touched(question: str) -> str:
    """The last cell of a row of the table."""
    (row,) = [line for line in ROWS if line.startswith(f"| {question} |")]
    return row.rpartition(" | ")[2]


def test_the_kinds_of_plugin_are_listed_once() -> None:
    found = {file for file, words in collections("certifier") if len(words & {*KINDS}) > len(KINDS) - 2}
    assert found == {"benchmark/api/__init__.py"}
    assert "`api/__init__`" in touched("a kind of plugin")


def test_the_norms_are_listed_where_the_design_says() -> None:
    found = {file for file, words in collections("l0") if words >= NORMS}
    assert found == {"benchmark/oracles/linear.py", "benchmark/testing/worlds.py"}
    for file in found:
        assert f"`{file.removeprefix('benchmark/').removesuffix('.py')}`" in touched("a norm")
