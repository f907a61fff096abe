"""The pages of the documentation, and the commands and programs that are printed on them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.house.checkout import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [body for language, body in _BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command on every page, each once."""
    found: dict[tuple[str, ...], str] = {}
    for page in PAGES:
        for block in blocks(page, "console", "bash", "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words:
                    found.setdefault(tuple(words), page.name)
    return [(page, list(words)) for words, page in found.items()]
