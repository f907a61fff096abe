"""Cells drawn without a template, for the pages of the systems, which have hundreds of thousands of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from ..words.wording import breakable
from .column import Column, Of
from .paths import Paths
from .tried_columns import Tried

__all__ = ["DrawnCells", "exact", "span"]

EMPTY = Markup("")
View = Mapping[str, object]
"""Properties of the page and the row that a cell needs: `sortable`, and `lowest`, the smallest value of the row."""


def exact(column: Column[Of], one: Of) -> Markup:
    """Exact value by which the script sorts."""
    value = column.value(one)
    return EMPTY if value is None else escape(value)


def span(column: Column[Of], one: Of) -> Markup:
    """Interval after a value, nothing without one."""
    between = column.span(one) if column.span else ""
    return Markup(f' <span class="ci">{escape(between)}</span>') if between else EMPTY


@dataclass(frozen=True)
class DrawnCells:
    """Functions with the arguments of the macros of `columns.html`. up: the way to the root of the site."""

    paths: Paths

    def line(self, columns: Sequence[Column[Tried]], tried: Tried, up: str, view: View) -> Markup:
        """All cells of the result of one attack on one system."""
        return Markup("".join([getattr(self, column.cell)(column, tried, up, view) for column in columns]))

    @staticmethod
    def number(column: Column[Of], one: Of, up: str, view: View) -> Markup:
        """A number with its interval."""
        return Markup(f'<td class="num"{_sorted(column, one, view)}>{escape(column.text(one))}{span(column, one)}</td>')

    @staticmethod
    def text(column: Column[Of], one: Of, up: str, view: View) -> Markup:
        """Words."""
        return Markup(f"<td>{escape(column.text(one))}</td>")

    @staticmethod
    def tried_robust(column: Column[Tried], tried: Tried, up: str, view: View) -> Markup:
        """Robust accuracy under one attack, underlined if it is the lowest of the row."""
        worst = " worst" if tried.score.robust.value == view["lowest"] else ""
        said = f"{escape(column.text(tried))}{span(column, tried)}"
        return Markup(f'<td class="num{worst}"{_sorted(column, tried, view)}>{said}</td>')

    def tried_system(self, column: Column[Tried], tried: Tried, up: str, view: View) -> Markup:
        """Name of a system, with a link to its page."""
        return _named(f"{up}{self.paths.row(tried.row.key)}", tried.row.label)

    def tried_attack(self, column: Column[Tried], tried: Tried, up: str, view: View) -> Markup:
        """Name of an attack, with a link to its page."""
        return _named(f"{up}{self.paths.attack(tried.column.name)}", tried.column.label)

    def records(self, column: Column[Tried], tried: Tried, up: str, view: View) -> Markup:
        """Links to the records of a result."""
        links = [
            f'<a href="{escape(up + self.paths.record(key))}"><code>{escape(key[:8])}</code></a>'
            for key in tried.score.keys
        ]
        return Markup(f"<td>{', '.join(links)}</td>")


def _sorted(column: Column[Of], one: Of, view: View) -> str:
    return f' data-v="{exact(column, one)}"' if view["sortable"] else ""


def _named(path: str, label: str) -> Markup:
    return Markup(f'<th scope="row" class="pin"><a href="{escape(path)}">{breakable(label)}</a></th>')
