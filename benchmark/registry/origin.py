"""Version of the code behind a result: a release, or a version with a digest of the source.

A distribution counts as released if it was installed as a package and its Python files match its RECORD. The version of
an editable installation, of one from a folder or repository, or of one with edited files does not identify its code.
There `0.2.0` becomes `0.2.0+src.1a2b3c4d5e6f`: a digest of the module and everything that it imports from its own
distribution, transitively. Comments, docstrings and layout do not count. Nothing is imported: sources are parsed.
Files other than Python source (tables, compiled extensions) and modules named only by strings are not covered.
"""

from __future__ import annotations

import ast
import base64
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

__all__ = ["harness_version", "source_digest", "source_stamps", "version_of"]

HARNESS = "adversarial-benchmark"
PACKAGE = "benchmark"
OWN_PACKAGES = frozenset({PACKAGE, "benchmark_leaderboard"})
"""Packages of the harness without plugins; :func:`harness_version` covers the parts that results depend on."""

COMPUTES = (
    "benchmark.api",
    "benchmark.data",
    "benchmark.oracles",
    "benchmark.records.build",
    "benchmark.records.outcomes",
    "benchmark.run",
    "benchmark.sampling",
    "benchmark.stages",
    "benchmark.system",
    "benchmark.threat",
)
"""Parts of the harness that compute numbers, unlike configuration, registry, commands and so on."""

ROOTS = {
    "system": ("benchmark.stages.fit",),
    "cell": ("benchmark.run", "benchmark.oracles.linear", "benchmark.oracles.relu"),
}
"""Modules from which the code behind a trained system, and a cell, is reached."""


def version_of(distribution: str, version: str, module: str) -> str:
    """Version of a plugin's distribution, with a digest of the plugin's source if it is not a release.

    Args:
        module: of the plugin.
    """
    return _version(distribution, version, module)


@functools.cache
def harness_version(part: str) -> str:
    """Version of the harness for a `system` or a `cell`, with a digest of its code if it is not a release."""
    version = importlib.metadata.version(HARNESS)
    if _released(HARNESS):
        return version
    return _stamped(version, source_digest(ROOTS[part], lambda name: name.startswith(COMPUTES)))


@functools.cache
def _version(distribution: str, version: str, module: str) -> str:
    if _released(distribution) and _listed(distribution, module):
        return version
    own = _own_packages(distribution, module)
    return _stamped(version, source_digest((module,), lambda name: name.partition(".")[0] in own))


def _stamped(version: str, digest: str) -> str:
    """Version with a digest of the source, as a local version of PEP 440."""
    return f"{version}{'.' if '+' in version else '+'}src.{digest[:12]}"


def source_stamps(plugins: Iterable[tuple[str, str]]) -> list[list[object]]:
    """Path, size and modification time of every Python file of unreleased plugins and harness.

    Args:
        plugins: distribution and module of each.
    """
    tops = {module.partition(".")[0] for distribution, module in plugins if not _released(distribution)}
    tops |= set() if _released(HARNESS) else {PACKAGE}
    files = sorted({file for top in tops for file in _files_of(top)})
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _files_of(top: str) -> Iterator[Path]:
    spec = _spec(top)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(place).rglob("*.py")
    if spec and spec.origin and spec.origin.endswith(".py"):
        yield Path(spec.origin)


# --- releases ---


@functools.cache
def _released(distribution: str) -> bool:
    """True if the version of a distribution identifies its code."""
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return True  # nothing but its version is known
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if "dir_info" in origin or "vcs_info" in origin:
        return False
    files = [file for file in found.files or () if file.suffix == ".py"]
    return bool(files) and all(_as_recorded(file) for file in files)


def _as_recorded(file: importlib.metadata.PackagePath) -> bool:
    path = Path(str(file.locate()))
    if file.hash is None or not path.is_file():
        return False
    digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value


def _listed(distribution: str, module: str) -> bool:
    """True if the file of a module is one of the distribution's installed files."""
    path = _file(module)
    try:
        files = importlib.metadata.distribution(distribution).files or ()
    except importlib.metadata.PackageNotFoundError:
        return True
    return path is None or any(path == Path(str(file.locate())) for file in files if file.name == path.name)


def _own_packages(distribution: str, module: str) -> frozenset[str]:
    """Top-level names whose source belongs to a distribution: its own, and those beside the plugin in its folder."""
    names = {module.partition(".")[0]}
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return frozenset(names)
    names |= set((found.read_text("top_level.txt") or "").split())
    names |= {file.parts[0].removesuffix(".py") for file in found.files or () if file.suffix == ".py"}
    folder = _folder(module)
    if folder is not None and folder.name not in ("site-packages", "dist-packages"):
        names |= {path.stem for path in folder.glob("*.py")} | {
            path.parent.name for path in folder.glob("*/__init__.py")
        }
    return frozenset(names - OWN_PACKAGES)


def _folder(module: str) -> Path | None:
    """Folder of the top-level module or package."""
    spec = _spec(module.partition(".")[0])
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    return path.parent.parent if path.name == "__init__.py" else path.parent


# --- sources ---


def source_digest(modules: tuple[str, ...], follow: Callable[[str], bool]) -> str:
    """sha256 over the code of modules and everything that they import.

    Args:
        follow: True for the names of modules that belong to it.
    """
    digests: dict[str, str] = {}
    todo = [*modules]
    while todo:
        name = todo.pop()
        file = None if name in digests else _file(name)
        if file is None:
            continue
        digests[name], imports = _parsed(file, name)
        parents = (name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1))
        todo += [other for other in (*imports, *parents) if other not in digests and follow(other)]
    return hashlib.sha256("\n".join(f"{name} {digests[name]}" for name in sorted(digests)).encode()).hexdigest()


@functools.cache
def _spec(top: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


@functools.cache
def _file(module: str) -> Path | None:
    """Source file of a module, found without importing its packages; None if there is none."""
    top, *rest = module.partition(":")[0].split(".")
    spec = _spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for place in spec.submodule_search_locations or ():
        folder = Path(place, *rest[:-1])
        for path in (folder / f"{rest[-1]}.py", folder / rest[-1] / "__init__.py"):
            if path.is_file():
                return path
    return None


@functools.cache
def _parsed(file: Path, module: str) -> tuple[str, frozenset[str]]:
    """Digest of a module's code, and the names that it may import: modules, and names that may be modules."""
    raw = file.read_bytes()
    try:
        tree = ast.parse(raw)
    except (SyntaxError, ValueError):  # it cannot be imported either
        return hashlib.sha256(raw).hexdigest(), frozenset()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    digest = hashlib.sha256(_code(tree).encode()).hexdigest()
    return digest, frozenset(_imports(tree, package))


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    """Every module named in an import, except for type checking."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and _type_checking(node.test):
        for other in node.orelse:
            yield from _imports(other, package)
    else:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.expr, ast.arguments)):
                yield from _imports(child, package)


def _type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _code(value: object) -> str:
    """Syntax tree as text, equal in every version of Python: empty fields and docstrings are left out."""
    if isinstance(value, list):
        return "[" + ",".join(_code(item) for item in value if not _is_text(item)) + "]"
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = [f"{name}={_code(field)}" for name, field in ast.iter_fields(value) if field is not None and field != []]
    return f"{type(value).__name__}({','.join(fields)})"


def _is_text(node: object) -> bool:
    """True for a docstring, or another string expression without effect."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
