"""Badges: a result as a small SVG image for a README, without font, style sheet and network."""

from __future__ import annotations

from markupsafe import Markup

from ..board import Board, Row
from ..words.display import interval, percent, several
from ..words.wording import radius, standing

__all__ = ["board_badge", "row_badge"]

CHARACTER_WIDTH = 6.6
"""Width per character in SVG units; the text is fitted to the resulting width in any font."""


def row_badge(board: Board, row: Row) -> Markup:
    """Badge of a system: its robust accuracy at the radius of a board, with interval and rank."""
    return _badge(
        f"robust at {radius(board.protocol)}",
        f"{percent(row.robust.value, row.robust.low, row.robust.high)} % "
        f"({interval(row.robust.low, row.robust.high)}), {standing(board, row)}",
        "#0f5f9e" if row.place <= board.front else "#575b64",
    )


def board_badge(board: Board) -> Markup:
    """Badge of a board: its size, and the number of systems in its top group."""
    return _badge(
        radius(board.protocol),
        f"{several(len(board.rows), 'system')}, {several(len(board.columns), 'attack')}, {board.front} at the top",
        "#0f5f9e",
    )


def _badge(left: str, right: str, colour: str) -> Markup:
    a, b = CHARACTER_WIDTH * len(left) + 14, CHARACTER_WIDTH * len(right) + 14
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="20" viewBox="0 0 {w:.0f} 20" role="img" '
        'aria-label="{left}: {right}"><title>{left}: {right}</title>'
        '<path fill="#2b2f36" d="M3 0H{a:.1f}V20H3A3 3 0 0 1 0 17V3A3 3 0 0 1 3 0Z"/>'
        '<path fill="{colour}" d="M{a:.1f} 0H{e:.1f}A3 3 0 0 1 {w:.1f} 3V17A3 3 0 0 1 {e:.1f} 20H{a:.1f}Z"/>'
        '<g fill="#ffffff" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">'
        '<text x="7" y="14" textLength="{l:.1f}" lengthAdjust="spacingAndGlyphs">{left}</text>'
        '<text x="{x:.1f}" y="14" textLength="{r:.1f}" lengthAdjust="spacingAndGlyphs">{right}</text></g></svg>\n'
    ).format(left=left, right=right, colour=colour, a=a, w=a + b, e=a + b - 3, l=a - 14, r=b - 14, x=a + 7)
