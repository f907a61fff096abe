"""The whole site in one HTML file, for the appendix of a paper or an attachment.

The pages follow one another. Their ids get the page's name as a prefix, links between pages become anchors, download
tables become data URLs within a size limit, and links to anything else become text. Rewriting the HTML of pages is safe
because it is our own: every quote and bracket of foreign text is escaped in it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from posixpath import dirname, join, normpath

from markupsafe import Markup

from benchmark.records.record import Record

from ..board import Leaderboard
from .render import Extras, render, single_page

__all__ = ["DOWNLOAD_BYTES", "single_file"]

DOWNLOAD_BYTES = 1_000_000
"""Largest total size of the download tables in the file, in bytes."""

ANCHOR = re.compile(r'<a ([^>]*?)href="([^"]*)"([^>]*)>(.*?)</a>', re.DOTALL)
NAMES = re.compile(r' (id|aria-labelledby|data-controls|data-compare|data-copy)="([^"]*)"')
PAGE = re.compile(r' data-page="[^"]*"')
REGION = re.compile(r'role="region" aria-label="([^"]*)"')
DOWNLOADS = re.compile(r'<p class="downloads">([^<]*): <a href="([^"]*)"[^>]*>CSV</a>.*?</p>\n', re.DOTALL)
TITLE = re.compile(r"<title>(.*?) · [^<]*</title>", re.DOTALL)
MAIN = re.compile(r'(<main id="content">.*</main>)', re.DOTALL)
INNER = re.compile(r'<main id="content"><div class="wrap">\n(.*)</div></main>', re.DOTALL)


def single_file(leaderboard: Leaderboard, records: Mapping[str, Record], extras: Extras | None = None) -> str:
    """Every page of the leaderboard as one page; numbers from the literature are left out."""
    files = dict(render(leaderboard, records, extras))
    order = sorted((path for path in files if path.endswith(".html")), key=lambda path: path == "definitions.html")
    pages = {path: f"p{at}" for at, path in enumerate(order)}
    tables = _Tables({path: text for path, text in files.items() if path.endswith(".csv")})
    parts = [(name, *_part(files[path], path, name, pages, tables)) for path, name in pages.items()]
    head, main, foot = MAIN.split(single_page(leaderboard, records, parts))
    return _inside(head, "", pages) + main + _inside(foot, "", pages)


class _Tables:
    """Download tables that still fit into the file; each goes in once."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.left = DOWNLOAD_BYTES

    def take(self, path: str) -> str:
        """Table as a data URL, or "" if it is in the file already or the size limit is reached."""
        text = self.texts.pop(path, None)
        if text is None or len(text) > self.left:
            return ""
        self.left -= len(text)
        return f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"


def _part(page: str, path: str, name: str, pages: Mapping[str, str], tables: _Tables) -> tuple[Markup, Markup]:
    """Title and content of one page, with ids and links rewritten for the single file."""
    title, content = TITLE.search(page), INNER.search(page)
    assert title is not None
    assert content is not None
    text = NAMES.sub(lambda m: f' {m[1]}="{" ".join(f"{name}-{word}" for word in m[2].split())}"', content[1])
    text = PAGE.sub("", text)  # the script's own way to another page
    text = REGION.sub(lambda m: f'role="region" aria-label="{m[1]} ({title[1]})"', text)
    text = DOWNLOADS.sub(lambda m: _download(m[1], normpath(join(dirname(path), m[2])), tables), text)
    return Markup(title[1]), Markup(_inside(text, path, pages))


def _download(what: str, path: str, tables: _Tables) -> str:
    address = tables.take(path)
    if not address:
        return ""
    name = path.rpartition("/")[2]
    return f'<p class="downloads">{what}: <a href="{address}" download="{name}">CSV</a></p>\n'


def _inside(text: str, path: str, pages: Mapping[str, str]) -> str:
    """HTML of the page at `path` with links rewritten to the single file; other links become text."""

    def rewritten(match: re.Match[str]) -> str:
        before, address, after, words = match.groups()
        if address.startswith("data:") or address == "#content":
            return match[0]
        target, _, anchor = address.partition("#")
        reached = pages.get(normpath(join(dirname(path), target)) if target else path)
        if reached is None:
            return f"<span>{words}</span>"
        return f'<a {before}href="#{reached}{f"-{anchor}" if anchor else ""}"{after}>{words}</a>'

    return ANCHOR.sub(rewritten, text)
