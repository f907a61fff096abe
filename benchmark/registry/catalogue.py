"""What installed plugins are, read from their source files: nothing is imported, so that listing them is fast.

A plugin's module is parsed, never run. Plugins of other distributions are also imported once, in a child process,
since only that shows whether they really load; the answer is kept in the user's cache folder until a distribution
changes. The sentences are those of :mod:`benchmark.registry`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.errors import PluginError
from benchmark.registry.installed import Declared
from benchmark.registry.sources import (
    API,
    Opaque,
    Page,
    absolute,
    class_values,
    exists,
    fields_of,
    find_class,
    lineage,
    literal,
    page_of,
    supports_of,
)
from benchmark.registry.trial import imported

__all__ = ["Description", "catalogue", "describe"]

HOOKS = Path(__file__).with_name("hookspecs.py")
_YEAR = re.compile(r"\b(19|20)\d\d\b|arXiv", re.IGNORECASE)


@dataclass(frozen=True)
class Description:
    """A plugin as its source file describes it.

    summary, paper: from the first paragraph of the file's docstring; paper is "" where it names none.
    about: the docstring of the class, which explains its settings.
    fields: the configuration, name -> default (None where the default is no literal).
    supports: of attacks and certifiers: norms and access by name, and the flags; empty for other kinds.
    flags: other declarations of the class that are true or false, such as a defense's `randomized`.
    problem: why it cannot be loaded, or "".
    """

    declared: Declared
    summary: str = ""
    paper: str = ""
    class_name: str = ""
    about: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    supports: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    problem: str = ""


def describe(plugin: Declared) -> Description:
    """What the source file of a plugin says; `problem` says why it cannot be loaded, as far as the file shows it."""
    where = f"plugin '{plugin.full_name}' from {plugin.owner}"
    try:
        registry.find(plugin.kind, plugin.name)
        registry.check_version(plugin)
        page = page_of(plugin.module.partition(":")[0])
    except PluginError as error:
        return Description(plugin, problem=str(error))
    except SyntaxError as error:
        return Description(plugin, problem=f"{where} failed to import: SyntaxError: {error}")
    if page is None:
        module = plugin.module.partition(":")[0]
        top = module.partition(".")[0]
        missing = module if exists(top) else top
        return Description(
            plugin, problem=f"{where} failed to import: No module named {missing!r}. The package must hold {top}"
        )
    summary, paper = _words(page)
    problem = _missing_import(page, where) or _hook_problem(page, where)
    if problem:
        return Description(plugin, summary, paper, problem=problem)
    found = _component(page)
    if found is None:
        return Description(plugin, summary, paper)
    line = lineage(*found)
    values = class_values(line)
    return Description(
        plugin,
        summary,
        paper,
        class_name=found[1].name,
        about=ast.get_docstring(found[1]) or "",
        fields=fields_of(line),
        supports=_declared_support(values),
        flags=_flags(values),
        problem=_class_problem(plugin, where, line, values),
    )


def _words(page: Page) -> tuple[str, str]:
    """Summary and paper: the first sentence of the docstring's first paragraph, and the rest if it has a year."""
    paragraph = " ".join((ast.get_docstring(page.tree) or "").partition("\n\n")[0].split())
    summary, _, rest = paragraph.partition(". ")
    return summary.rstrip("."), rest if _YEAR.search(rest) else ""


def _declared_support(values: dict[str, tuple[Page, ast.expr]]) -> dict[str, Any]:
    if "supports" not in values:
        return {}
    try:
        return supports_of(*values["supports"])
    except Opaque:
        return {}


def _flags(values: dict[str, tuple[Page, ast.expr]]) -> dict[str, bool]:
    flags: dict[str, bool] = {}
    for name, (_, node) in values.items():
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            flags[name] = node.value
    return flags


def _missing_import(page: Page, where: str) -> str:
    """The sentence for the first import at the top of the module that cannot be found, or ""."""
    for node in page.tree.body:
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wanted = [absolute(page.name, page.path, node)]
        else:
            continue
        for module in wanted:
            top = module.partition(".")[0]
            if not exists(top):
                return f"{where} failed to import: No module named {top!r}. Try: pip install {top}"
    return ""


def _decorated(node: ast.stmt) -> bool:
    """Whether a function carries @hookimpl."""
    if not isinstance(node, ast.FunctionDef):
        return False
    marks = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any(getattr(mark, "id", getattr(mark, "attr", "")) == "hookimpl" for mark in marks)


@functools.cache
def _hooks() -> frozenset[str]:
    """The names of all hooks."""
    tree = ast.parse(HOOKS.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def _hook_problem(page: Page, where: str) -> str:
    """The sentence for a misspelt hook, or for a module that registers nothing, or ""."""
    hooks = [node.name for node in page.tree.body if isinstance(node, ast.FunctionDef) and _decorated(node)]
    unknown = [name for name in hooks if name not in _hooks()]
    ending = "a plugin module ends with @hookimpl def benchmark_component()"
    if unknown:
        module = f"<module {page.name!r} from {str(page.path)!r}>"
        return f"{where} registers wrongly: unknown hook {unknown[0]!r} in plugin {module}; {ending}"
    if "benchmark_component" not in hooks:
        return f"{where} registers no component (hooks found: {', '.join(hooks) or 'none'}); {ending}"
    return ""


def _component(page: Page) -> tuple[Page, ast.ClassDef] | None:
    """The class that the module's `benchmark_component` returns by name."""
    for node in page.tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "benchmark_component" and _decorated(node):
            for item in ast.walk(node):
                if isinstance(item, ast.Return) and isinstance(item.value, ast.Name):
                    return find_class(page, item.value.id)
    return None


def _class_problem(
    plugin: Declared, where: str, line: list[tuple[Page, ast.ClassDef]], values: dict[str, tuple[Page, ast.expr]]
) -> str:
    """The sentence for a class of the wrong kind, version or form, or ""."""
    api = page_of(API)
    assert api is not None
    name = line[0][1].name
    if plugin.kind not in registry.KINDS or not plugin.name:
        return f"{where} {registry.misnamed(plugin)}"
    expected = literal(api, api.constants["API_VERSION"])
    page, node = values["api_version"] if "api_version" in values else (api, api.constants["API_VERSION"])
    version = literal(page, node) if isinstance(node, (ast.Constant, ast.Name)) else expected
    if version != expected:
        return (
            f"{where} was written for version {version} of the plugin contracts, and this harness has version "
            f"{expected}; install a release of {plugin.distribution} made for it"
        )
    if not any("dataclass" in ast.unparse(d) and "frozen=True" in ast.unparse(d) for d in line[0][1].decorator_list):
        return f"{where}: {name} must be decorated with @dataclass(frozen=True)"
    abstract: set[str] = set()
    for _, cls in reversed(line):
        for item in cls.body:
            if isinstance(item, ast.FunctionDef):
                marked = any("abstractmethod" in ast.unparse(d) for d in item.decorator_list)
                abstract = abstract | {item.name} if marked else abstract - {item.name}
    if abstract:
        return f"{where}: {name} does not define {', '.join(sorted(abstract))}"
    if plugin.kind in ("attack", "certifier") and "supports" not in values:
        return f"{where}: {name} does not declare {registry.SUPPORTS}"
    return ""


def catalogue(kind: str | None = None) -> list[Description]:
    """Every declared plugin, of one kind or of all, and what is wrong with it; those of others are really imported."""
    found = [describe(plugin) for plugin in registry.declared() if kind is None or plugin.kind == kind]
    order = {name: at for at, name in enumerate(registry.KINDS)}
    found.sort(key=lambda d: (order.get(d.declared.kind, len(order)), d.declared.name, d.declared.distribution))
    foreign = [d.declared for d in found if not d.problem and d.declared.distribution != registry.DISTRIBUTION]
    if not foreign:
        return found
    answers = imported(foreign)
    return [
        dataclasses.replace(d, problem=d.problem or answers.get(d.declared.full_name, ""))
        if d.declared in foreign
        else d
        for d in found
    ]
