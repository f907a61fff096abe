"""The documentation as a site, built by `make docs`: the pages are Markdown, the reference is made of docstrings."""

from __future__ import annotations

import contextlib
import enum
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _PROJECT["name"]
release = version = _PROJECT["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples", "schema"]
html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
html_copy_source = False

myst_heading_anchors = 3
nb_execution_mode = "auto"  # a notebook without outputs is executed
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds per cell, on a machine that does other things too

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
napoleon_use_rtype = False  # shapes are no types
default_role = "py:obj"  # a name in backticks is a link where the reference has it
python_maximum_signature_line_length = 100
suppress_warnings = ["ref.python"]  # a name that several classes have is no link

PAGES_BESIDE_API = ("benchmark.errors", "benchmark.sampling", "benchmark.system", "benchmark.threat")


def names_of(documented: Any) -> list[str]:
    """Parameters of a function; fields, members and parameters of a class."""
    names = [*getattr(documented, "__members__", ()), *getattr(documented, "__annotations__", ())]
    with contextlib.suppress(TypeError, ValueError):  # no callable, or one without a signature
        names += inspect.signature(documented).parameters
    return names


def listed(lines: list[str], names: list[str], *, bullets: bool) -> Iterator[str]:
    """The docstring with every `name: text` on a line of its own: as a bullet, or for napoleon's sections as it is.

    Docstrings may put several short ones on one line: `low: the least value. high: the greatest.`
    """
    name = "|".join(names if bullets else [*names, r"[A-Z]\w+"])  # a function's errors too
    entry = re.compile(rf"(?:^\s*|(?<=[.;] ))(?=(?:{name})(?:, (?:{name}))*: )")
    inside = False
    for line in lines:
        first, *entries = entry.split(line)
        indent = line[: len(line) - len(line.lstrip())]
        if not line.strip():
            inside = False
        if not bullets:
            yield from [indent + part for part in entries] if entries and not first else [line]
            continue
        if first.strip() or not entries:
            yield "  " + first.strip() if inside and first.strip() else first
        for part in entries:
            if not inside:
                yield ""
            inside = True
            yield "- " + re.sub(r"^([\w, ]+):", r"**\1**:", part.strip())


def lay_out(_app: Sphinx, what: str, _name: str, documented: Any, _options: Any, lines: list[str]) -> None:
    """Turn the docstrings' form into reStructuredText, before napoleon reads the sections."""
    if names := names_of(documented):
        lines[:] = listed(lines, names, bullets=what in ("class", "exception"))
    if isinstance(documented, enum.EnumType) and not any(line.startswith("- **") for line in lines):
        lines += ["One of " + ", ".join(f"``{name}``" for name in documented.__members__) + "."]
    lines[:] = [re.sub(r"(?<![\\*\w])\*(?=\w+[,)])|(?<=\w)\*\*(?=\w)", _escaped, line) for line in lines]


def _escaped(stars: re.Match[str]) -> str:
    """`(B, *S)` and `2**31` are meant as they stand, not as the beginning of an emphasis."""
    return stars.group().replace("*", r"\*")


def skip(app: Sphinx, _what: str, name: str, documented: Any, _skip: bool, _options: Any) -> bool | None:
    """`benchmark.api` offers names of the other pages too; they are described there. None: as Sphinx decides."""
    others = map(importlib.import_module, PAGES_BESIDE_API)
    here = app.env.docname == "reference/api"
    return True if here and any(getattr(other, name, None) is documented for other in others) else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", lay_out, priority=100)
