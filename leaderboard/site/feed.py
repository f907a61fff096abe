"""Atom feed (RFC 4287) of results: one entry per system and board, dated by its newest record."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape, quoteattr

from benchmark.records.document import content_key
from benchmark.records.record import Record

from ..board import Board, Leaderboard, Row
from ..words.display import interval, percent
from ..words.wording import radius, standing, suite_title

__all__ = ["EPOCH", "feed", "stamp"]

EPOCH = "1970-01-01T00:00:00Z"
"""Date of results without one."""
LIMIT = 100
"""Largest number of entries, of which the newest are kept."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def feed(leaderboard: Leaderboard, records: Mapping[str, Record], name: str, pages: Mapping[str, str]) -> str:
    """Feed as text. pages: page of each system, by the key of its row."""
    entries = []
    for board in leaderboard.boards:
        for row in board.rows:
            when = stamp(records[key] for key in row.keys if key in records)
            entries.append((when, _entry(board, row, when, pages[row.key])))
    entries.sort(reverse=True)
    shown = entries[:LIMIT]
    when = shown[0][0] if shown else EPOCH
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
        f"<title>{_text(name)}</title>\n<id>{_id(name)}</id>\n<updated>{when}</updated>\n"
        f"<author><name>{_text(name)}</name></author>\n"
        '<link rel="self" href="feed.xml"/>\n<link href="index.html"/>\n'
        f"{''.join(text for _, text in shown)}</feed>\n"
    )


def stamp(records: Iterable[Record]) -> str:
    """Newest date among the records, as RFC 3339 in UTC; malformed dates are ignored."""
    dates = [str(record.provenance.get("created", "")) for record in records]
    return max((date for date in dates if TIME.fullmatch(date)), default=EPOCH)


def _entry(board: Board, row: Row, when: str, page: str) -> str:
    """Entry of one result; the id includes the records, so that another number is another entry."""
    held = f"{percent(row.robust.value, row.robust.low, row.robust.high)} %"
    said = (
        f"{held} of {row.robust.total} examples are classified correctly under every attack (95 % interval "
        f"{interval(row.robust.low, row.robust.high)}), {standing(board, row)}; "
        f"{suite_title(board.protocol)}."
    )
    return (
        f"<entry>\n<title>{_text(f'{row.label}: {held} at {radius(board.protocol)}')}</title>\n"
        f"<id>{_id(board.protocol.key, row.key, *row.keys)}</id>\n<updated>{when}</updated>\n"
        f"<link href={quoteattr(page)}/>\n<summary>{_text(said)}</summary>\n</entry>\n"
    )


def _text(text: str) -> str:
    """Text for XML, with control characters, which it cannot contain, replaced by spaces."""
    return escape("".join(sign if sign.isprintable() else " " for sign in text))


def _id(*parts: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, content_key(list(parts))).urn
