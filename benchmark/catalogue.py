"""What installed plugins are, read from their source files: nothing is imported, so that listing them is fast.

A plugin's module is parsed, never run. Plugins of other distributions are also imported once, in a child process,
since only that shows whether they really load; the answer is kept in the user's cache folder until a distribution
changes. The sentences are those of :mod:`benchmark.registry`.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark import __version__, registry
from benchmark.errors import PluginError
from benchmark.registry import Declared

__all__ = ["Description", "catalogue", "describe"]

HOOKS = Path(__file__).with_name("hookspecs.py")
API = "benchmark.api"
NORMS = ("linf", "l2", "l1", "l0")
_YEAR = re.compile(r"\b(19|20)\d\d\b|arXiv", re.IGNORECASE)


@dataclass(frozen=True)
class Description:
    """A plugin as its source file describes it.

    summary, paper: from the first paragraph of the file's docstring; paper is "" where it names none.
    fields: the configuration, name -> default (None where the default is no literal).
    supports: of attacks and certifiers: norms and access by name, and the flags; empty for other kinds.
    flags: other declarations of the class that are true or false, such as a defense's `randomized`.
    problem: why it cannot be loaded, or "".
    """

    declared: Declared
    summary: str = ""
    paper: str = ""
    class_name: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    supports: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    problem: str = ""


# --- source files ----------------------------------------------------------------------------------------------------


@functools.cache
def _source(module: str) -> Path | None:
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


def _exists(package: str) -> bool:
    """Whether a top-level package can be found."""
    if package in sys.builtin_module_names or package in sys.stdlib_module_names:
        return True
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


@dataclass(frozen=True)
class _Page:
    """A parsed module: its classes, its constants, and where its imported names come from (module, name)."""

    name: str
    path: Path
    tree: ast.Module
    classes: dict[str, ast.ClassDef]
    constants: dict[str, ast.expr]
    imports: dict[str, tuple[str, str]]


@functools.cache
def _page(module: str) -> _Page | None:
    """The parsed module, or None if there is no source file.

    Raises:
        SyntaxError: as importing it would.
    """
    path = _source(module)
    if path is None:
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    constants: dict[str, ast.expr] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            origin = _absolute(module, path, node)
            imports.update({alias.asname or alias.name: (origin, alias.name) for alias in node.names})
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            constants[node.target.id] = node.value
    return _Page(module, path, tree, classes, constants, imports)


def _absolute(module: str, path: Path, node: ast.ImportFrom) -> str:
    """The module that `from ... import` names."""
    if not node.level:
        return node.module or ""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def _find(page: _Page, name: str) -> tuple[_Page, ast.ClassDef] | None:
    """The class of that name in a module, or where the module imports it from."""
    if name in page.classes:
        return page, page.classes[name]
    if name in page.imports:
        module, original = page.imports[name]
        other = _page(module)
        return None if other is None else _find(other, original)
    return None


def _lineage(page: _Page, node: ast.ClassDef) -> list[tuple[_Page, ast.ClassDef]]:
    """The class and its bases as far as their sources are there, nearest first."""
    line = [(page, node)]
    for base in node.bases:
        name = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
        found = _find(page, name) if isinstance(base, ast.Name) else _in_module(page, base)
        if found is not None and name:
            line += _lineage(*found)
    return line


def _in_module(page: _Page, base: ast.expr) -> tuple[_Page, ast.ClassDef] | None:
    """The class that `module.Class` names, where `module` was imported by `from package import module`."""
    if not (isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) and base.value.id in page.imports):
        return None
    package, module = page.imports[base.value.id]
    other = _page(f"{package}.{module}")
    return None if other is None else _find(other, base.attr)


# --- values ----------------------------------------------------------------------------------------------------------


class _Opaque(Exception):  # noqa: N818 - it is no error: the value is simply not a literal
    """A value that only running the module would tell."""


_OPERATIONS: dict[type[ast.operator], Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


def _value(page: _Page, node: ast.expr) -> Any:  # noqa: PLR0911 - one way out per form of literal
    """The value of a literal, of arithmetic on literals, of a constant of the module, or the name of an enum member.

    Raises:
        _Opaque: if it is anything else.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        values = [_value(page, item) for item in node.elts]
        return set(values) if isinstance(node, ast.Set) else tuple(values) if isinstance(node, ast.Tuple) else values
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(page, node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(page, node.left), _value(page, node.right))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr
    if isinstance(node, ast.Name) and node.id == "Norm":
        return frozenset(NORMS)
    if isinstance(node, ast.Name) and node.id in page.constants:
        return _value(page, page.constants[node.id])
    if isinstance(node, ast.Name) and node.id in page.imports:
        module, name = page.imports[node.id]
        other = _page(module)
        if other is not None and name in other.constants:
            return _value(other, other.constants[name])
    if isinstance(node, ast.Call):
        return _called(page, node)
    raise _Opaque


def _called(page: _Page, node: ast.Call) -> Any:
    """frozenset(...), set(...), tuple(...), list(...), also with an index such as frozenset[Norm](), and field(...)."""
    called = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    makers: dict[str, Any] = {"frozenset": frozenset, "set": set, "tuple": tuple, "list": list, "dict": dict}
    if name in makers and not node.keywords and len(node.args) <= 1:
        return makers[name](*(_value(page, argument) for argument in node.args))
    if name == "field":
        given = {k.arg: k.value for k in node.keywords}
        if "default" in given:
            return _value(page, given["default"])
        factory = given.get("default_factory")
        if isinstance(factory, ast.Name) and factory.id in makers:
            return makers[factory.id]()
    raise _Opaque


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


def _fields(line: list[tuple[_Page, ast.ClassDef]]) -> dict[str, Any]:
    """The dataclass fields in order, those of the bases first."""
    fields: dict[str, Any] = {}
    for page, node in reversed(line):
        for name, annotation, default in _annotated(node):
            if _is_class_level(annotation) and name not in fields:
                continue
            if not _takes_part(default):
                continue
            try:
                fields[name] = None if default is None else _value(page, default)
            except _Opaque:
                fields[name] = None
    return fields


def _class_values(line: list[tuple[_Page, ast.ClassDef]]) -> dict[str, tuple[_Page, ast.expr]]:
    """The values that a class and its bases give at class level; the nearest wins."""
    values: dict[str, tuple[_Page, ast.expr]] = {}
    for page, node in reversed(line):
        for name, annotation, default in _annotated(node):
            if _is_class_level(annotation) and default is not None:
                values[name] = (page, default)
    return values


def _supports(page: _Page, node: ast.expr) -> dict[str, Any]:
    """What `Supports(...)` declares, with the defaults of `benchmark.api.Supports`."""
    if isinstance(node, ast.Name) and node.id in page.constants:
        node = page.constants[node.id]
    if not isinstance(node, ast.Call):
        raise _Opaque
    api = _page(API)
    assert api is not None
    names = [name for name, _, _ in _annotated(api.classes["Supports"])]
    values = {name: _value(api, default) for name, _, default in _annotated(api.classes["Supports"]) if default}
    for name, argument in zip(names, node.args, strict=False):
        values[name] = _value(page, argument)
    for keyword in node.keywords:
        if keyword.arg is None:
            raise _Opaque
        values[keyword.arg] = _value(page, keyword.value)
    values["norms"] = [norm for norm in NORMS if norm in values["norms"]]
    return values


# --- descriptions ----------------------------------------------------------------------------------------------------


def describe(plugin: Declared) -> Description:
    """What the source file of a plugin says; `problem` says why it cannot be loaded, as far as the file shows it."""
    where = f"plugin '{plugin.full_name}' from {plugin.owner}"
    try:
        registry.find(plugin.kind, plugin.name)
        registry._check_version(plugin)
        page = _page(plugin.module.partition(":")[0])
    except PluginError as error:
        return Description(plugin, problem=str(error))
    except SyntaxError as error:
        return Description(plugin, problem=f"{where} failed to import: SyntaxError: {error}")
    if page is None:
        module = plugin.module.partition(":")[0]
        top = module.partition(".")[0]
        missing = module if _exists(top) else top
        return Description(
            plugin, problem=f"{where} failed to import: No module named {missing!r}. Try: pip install {top}"
        )
    summary, paper = _words(page)
    problem = _missing_import(page, where) or _hook_problem(page, where)
    if problem:
        return Description(plugin, summary, paper, problem=problem)
    found = _component(page)
    if found is None:
        return Description(plugin, summary, paper)
    line = _lineage(*found)
    values = _class_values(line)
    return Description(
        plugin,
        summary,
        paper,
        class_name=found[1].name,
        fields=_fields(line),
        supports=_declared_support(values),
        flags=_flags(values),
        problem=_class_problem(plugin, where, line, values),
    )


def _words(page: _Page) -> tuple[str, str]:
    """Summary and paper: the first sentence of the docstring's first paragraph, and the rest if it has a year."""
    paragraph = " ".join((ast.get_docstring(page.tree) or "").partition("\n\n")[0].split())
    summary, _, rest = paragraph.partition(". ")
    return summary.rstrip("."), rest if _YEAR.search(rest) else ""


def _declared_support(values: dict[str, tuple[_Page, ast.expr]]) -> dict[str, Any]:
    if "supports" not in values:
        return {}
    try:
        return _supports(*values["supports"])
    except _Opaque:
        return {}


def _flags(values: dict[str, tuple[_Page, ast.expr]]) -> dict[str, bool]:
    flags: dict[str, bool] = {}
    for name, (_, node) in values.items():
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            flags[name] = node.value
    return flags


def _missing_import(page: _Page, where: str) -> str:
    """The sentence for the first import at the top of the module that cannot be found, or ""."""
    for node in page.tree.body:
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wanted = [_absolute(page.name, page.path, node)]
        else:
            continue
        for module in wanted:
            top = module.partition(".")[0]
            if not _exists(top):
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


def _hook_problem(page: _Page, where: str) -> str:
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


def _component(page: _Page) -> tuple[_Page, ast.ClassDef] | None:
    """The class that the module's `benchmark_component` returns by name."""
    for node in page.tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "benchmark_component" and _decorated(node):
            for item in ast.walk(node):
                if isinstance(item, ast.Return) and isinstance(item.value, ast.Name):
                    return _find(page, item.value.id)
    return None


def _class_problem(
    plugin: Declared, where: str, line: list[tuple[_Page, ast.ClassDef]], values: dict[str, tuple[_Page, ast.expr]]
) -> str:
    """The sentence for a class of the wrong kind, version or form, or ""."""
    api = _page(API)
    assert api is not None
    name = line[0][1].name
    if plugin.kind not in registry.KINDS:
        return f"{where} is of kind {plugin.kind!r}; expected one of {', '.join(registry.KINDS)}"
    expected = _value(api, api.constants["API_VERSION"])
    page, node = values["api_version"] if "api_version" in values else (api, api.constants["API_VERSION"])
    version = _value(page, node) if isinstance(node, (ast.Constant, ast.Name)) else expected
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
    return f"{where}: {name} does not define {', '.join(sorted(abstract))}" if abstract else ""


# --- really importing what others wrote ------------------------------------------------------------------------------

_CHILD = """
import json, sys
from benchmark import __version__, registry
from benchmark.errors import PluginError
answers = {}
for full in json.load(sys.stdin):
    kind, _, name = full.partition(".")
    try:
        registry.load(kind, name)
        answers[full] = ""
    except PluginError as error:
        answers[full] = str(error)
sys.stdout.write("\\n" + json.dumps(answers))
"""


def _cache_folder() -> Path:
    """Where this platform keeps a user's caches; XDG_CACHE_HOME comes first."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen) / "adversarial-benchmark"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "adversarial-benchmark"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "adversarial-benchmark"
    return Path.home() / ".cache" / "adversarial-benchmark"


@functools.cache
def _environment() -> str:
    """What is installed: a change of any distribution makes earlier answers void."""
    names: list[str] = [sys.version, sys.prefix]
    for folder in sys.path:
        try:
            entries = [entry.name for entry in Path(folder or ".").iterdir()]
        except OSError:
            continue
        names += sorted(name for name in entries if name.endswith((".dist-info", ".egg-info", ".egg-link")))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _cache_key(plugin: Declared) -> str:
    """A name for a plugin in the state in which it is installed now."""
    path = _source(plugin.module.partition(":")[0])
    state = (path.stat().st_mtime_ns, path.stat().st_size) if path is not None else ()
    parts = (plugin.full_name, plugin.distribution, plugin.version, str(path), state, __version__, _environment())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _imported(plugins: Sequence[Declared]) -> dict[str, str]:
    """By full name: why a plugin does not load, or ""; unknown ones are imported in one child process."""
    file = _cache_folder() / "plugins.json"
    try:
        known: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    keys = {plugin.full_name: _cache_key(plugin) for plugin in plugins}
    unknown = [name for name, key in keys.items() if key not in known]
    if unknown:
        from benchmark.record import write_atomic

        answers = _import_in_child(unknown)
        known = {key: value for key, value in known.items() if key in keys.values()}
        known |= {keys[name]: answer for name, answer in answers.items()}
        with contextlib.suppress(OSError):  # a folder that cannot be written only costs time
            write_atomic(file, json.dumps(known, indent=1, sort_keys=True) + "\n")
    return {name: known.get(key, "") for name, key in keys.items()}


def _import_in_child(names: Sequence[str]) -> dict[str, str]:
    """Load plugins in a process of their own, so that one that crashes or hangs takes nothing with it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=json.dumps(names),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            answers: dict[str, str] = json.loads(done.stdout.rpartition("\n")[2])
            return answers
        reason = f"ended the process with code {done.returncode}"
    except subprocess.TimeoutExpired:
        reason = "took longer than 120 seconds"
    if len(names) == 1:
        return {names[0]: f"plugin '{names[0]}' {reason} while it was imported; uninstall it, or tell its author"}
    return {name: answer for one in names for name, answer in _import_in_child([one]).items()}


def catalogue(kind: str | None = None) -> list[Description]:
    """Every declared plugin, of one kind or of all, and what is wrong with it; those of others are really imported."""
    found = [describe(plugin) for plugin in registry.declared() if kind is None or plugin.kind == kind]
    order = {name: at for at, name in enumerate(registry.KINDS)}
    found.sort(key=lambda d: (order.get(d.declared.kind, len(order)), d.declared.name, d.declared.distribution))
    foreign = [d.declared for d in found if not d.problem and d.declared.distribution != registry.DISTRIBUTION]
    if not foreign:
        return found
    answers = _imported(foreign)
    return [
        dataclasses.replace(d, problem=d.problem or answers.get(d.declared.full_name, ""))
        if d.declared in foreign
        else d
        for d in found
    ]
