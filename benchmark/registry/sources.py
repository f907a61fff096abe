"""Python source files read as text: which classes a module defines, their fields and their literal values.

Nothing is imported or run, so a listing of plugins costs no more than parsing their files.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "API",
    "Opaque",
    "Page",
    "absolute",
    "class_values",
    "exists",
    "fields_of",
    "find_class",
    "lineage",
    "literal",
    "page_of",
    "supports_of",
]

API = "benchmark.api"
NORMS = ("linf", "l2", "l1", "l0")


@functools.cache
def source_of(module: str) -> Path | None:
    """The source file of a module, found without importing it or the packages that it lies in."""
    places: Sequence[str] | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        spec = None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, places) if hasattr(finder, "find_spec") else None
            if spec is not None:
                break
        if spec is None:
            return None
        places = list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else None
        if depth == len(parts):
            return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
        if places is None:
            return None
    return None


@functools.cache
def exists(package: str) -> bool:
    """Whether a top-level package can be found."""
    if package in sys.builtin_module_names or package in sys.stdlib_module_names:
        return True
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


@dataclass(frozen=True)
class Page:
    """A parsed module: its classes, its constants, and where its imported names come from (module, name)."""

    name: str
    path: Path
    tree: ast.Module
    classes: dict[str, ast.ClassDef]
    constants: dict[str, ast.expr]
    imports: dict[str, tuple[str, str]]


@functools.cache
def page_of(module: str) -> Page | None:
    """The parsed module, or None if there is no source file.

    Raises:
        SyntaxError: as importing it would.
    """
    path = source_of(module)
    if path is None:
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    constants: dict[str, ast.expr] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in _at_top(tree.body):
        if isinstance(node, ast.ImportFrom):
            origin = absolute(module, path, node)
            imports.update({alias.asname or alias.name: (origin, alias.name) for alias in node.names})
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            constants[node.target.id] = node.value
    return Page(module, path, tree, classes, constants, imports)


def _at_top(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module that run as it is imported, those under `if` and `try` among them."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try)):
            for part in (node.body, node.orelse, *(h.body for h in getattr(node, "handlers", ()))):
                yield from _at_top(part)


def absolute(module: str, path: Path, node: ast.ImportFrom) -> str:
    """The module that `from ... import` names."""
    if not node.level:
        return node.module or ""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def find_class(page: Page, name: str) -> tuple[Page, ast.ClassDef] | None:
    """The class of that name in a module, or where the module imports it from."""
    if name in page.classes:
        return page, page.classes[name]
    if name in page.imports:
        module, original = page.imports[name]
        other = page_of(module)
        return None if other is None else find_class(other, original)
    return None


def lineage(page: Page, node: ast.ClassDef) -> list[tuple[Page, ast.ClassDef]]:
    """The class and its bases as far as their sources are there, nearest first."""
    line = [(page, node)]
    for base in node.bases:
        name = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
        found = find_class(page, name) if isinstance(base, ast.Name) else _in_module(page, base)
        if found is not None and name:
            line += lineage(*found)
    return line


def _in_module(page: Page, base: ast.expr) -> tuple[Page, ast.ClassDef] | None:
    """The class that `module.Class` names, where `module` was imported by `from package import module`."""
    if not (isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) and base.value.id in page.imports):
        return None
    package, module = page.imports[base.value.id]
    other = page_of(f"{package}.{module}")
    return None if other is None else find_class(other, base.attr)


class Opaque(Exception):  # noqa: N818 - it is no error: the value is simply not a literal
    """A value that only running the module would tell."""


_OPERATIONS: dict[type[ast.operator], Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


def literal(page: Page, node: ast.expr) -> Any:  # noqa: PLR0911 - one way out per form of literal
    """The value of a literal, of arithmetic on literals, of a constant of the module, or the name of an enum member.

    Raises:
        Opaque: if it is anything else.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        values = [literal(page, item) for item in node.elts]
        return set(values) if isinstance(node, ast.Set) else tuple(values) if isinstance(node, ast.Tuple) else values
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -literal(page, node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](literal(page, node.left), literal(page, node.right))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr
    if isinstance(node, ast.Name) and node.id == "Norm":
        return frozenset(NORMS)
    if isinstance(node, ast.Name) and node.id in page.constants:
        return literal(page, page.constants[node.id])
    if isinstance(node, ast.Name) and node.id in page.imports:
        module, name = page.imports[node.id]
        other = page_of(module)
        if other is not None and name in other.constants:
            return literal(other, other.constants[name])
    if isinstance(node, ast.Call):
        return _called(page, node)
    raise Opaque


def _called(page: Page, node: ast.Call) -> Any:
    """frozenset(...), set(...), tuple(...), list(...), also with an index such as frozenset[Norm](), and field(...)."""
    called = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    makers: dict[str, Any] = {"frozenset": frozenset, "set": set, "tuple": tuple, "list": list, "dict": dict}
    if name in makers and not node.keywords and len(node.args) <= 1:
        return makers[name](*(literal(page, argument) for argument in node.args))
    if name == "field":
        given = {k.arg: k.value for k in node.keywords}
        if "default" in given:
            return literal(page, given["default"])
        factory = given.get("default_factory")
        if isinstance(factory, ast.Name) and factory.id in makers:
            return makers[factory.id]()
    raise Opaque


def _annotated(node: ast.ClassDef) -> list[tuple[str, str, ast.expr | None]]:
    """(name, annotation, default) of the statements of a class body that have an annotation, or are plain values."""
    found: list[tuple[str, str, ast.expr | None]] = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found.append((item.target.id, ast.unparse(item.annotation).strip("'\""), item.value))
        elif isinstance(item, ast.Assign) and len(item.targets) == 1 and isinstance(item.targets[0], ast.Name):
            found.append((item.targets[0].id, "ClassVar", item.value))
    return found


def _is_class_level(annotation: str) -> bool:
    return annotation.rpartition("typing.")[2].startswith("ClassVar")


def _takes_part(default: ast.expr | None) -> bool:
    """Whether a field is a parameter of the constructor."""
    if isinstance(default, ast.Call) and getattr(default.func, "id", getattr(default.func, "attr", "")) == "field":
        return not any(k.arg == "init" and getattr(k.value, "value", True) is False for k in default.keywords)
    return True


def fields_of(line: list[tuple[Page, ast.ClassDef]]) -> dict[str, Any]:
    """The dataclass fields in order, those of the bases first."""
    fields: dict[str, Any] = {}
    for page, node in reversed(line):
        for name, annotation, default in _annotated(node):
            if _is_class_level(annotation) and name not in fields:
                continue
            if not _takes_part(default):
                continue
            try:
                fields[name] = None if default is None else literal(page, default)
            except Opaque:
                fields[name] = None
    return fields


def class_values(line: list[tuple[Page, ast.ClassDef]]) -> dict[str, tuple[Page, ast.expr]]:
    """The values that a class and its bases give at class level; the nearest wins."""
    values: dict[str, tuple[Page, ast.expr]] = {}
    for page, node in reversed(line):
        for name, annotation, default in _annotated(node):
            if _is_class_level(annotation) and default is not None:
                values[name] = (page, default)
    return values


def supports_of(page: Page, node: ast.expr) -> dict[str, Any]:
    """What `Supports(...)` declares, with the defaults of `benchmark.api.Supports`."""
    if isinstance(node, ast.Name) and node.id in page.constants:
        node = page.constants[node.id]
    if not isinstance(node, ast.Call):
        raise Opaque
    api = page_of(API)
    assert api is not None
    names = [name for name, _, _ in _annotated(api.classes["Supports"])]
    values = {name: literal(api, default) for name, _, default in _annotated(api.classes["Supports"]) if default}
    for name, argument in zip(names, node.args, strict=False):
        values[name] = literal(page, argument)
    for keyword in node.keywords:
        if keyword.arg is None:
            raise Opaque
        values[keyword.arg] = literal(page, keyword.value)
    values["norms"] = [norm for norm in NORMS if norm in values["norms"]]
    return values
