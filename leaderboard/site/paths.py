"""Paths of the site: readable names, made unique by a part of a key."""

from __future__ import annotations

import functools
import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from ..board import Leaderboard
from ..words.wording import slug

DEVELOPER = "adversarial-benchmark"
"""Collection and developer of the systems of a site in Every Eval Ever."""

__all__ = ["DEVELOPER", "Paths", "digest", "paths_of", "record_path", "stem"]


@dataclass(frozen=True)
class Paths:
    """Paths of all pages and files, relative to the root of the site."""

    boards: Mapping[str, str]
    rows: Mapping[str, str]

    def board(self, key: str) -> str:
        """Page of a board."""
        return f"boards/{self.boards[key]}.html"

    def matrix(self, key: str, page: int) -> str:
        """Page of the attack-by-system matrix of a board, from 0."""
        return f"boards/{self.boards[key]}-matrix{f'-{page + 1}' if page else ''}.html"

    def systems(self, page: int) -> str:
        """Page of the list of systems, from 0."""
        return f"systems{f'-{page + 1}' if page else ''}.html"

    def anchor(self, key: str) -> str:
        """Short id of a board or a system on a page."""
        return f"k{digest(key)[:8]}"

    def row(self, key: str) -> str:
        """Page of a system."""
        return f"systems/{self.rows[key]}.html"

    def badge(self, board: str, row: str = "") -> str:
        """Badge of a board, or of a system on it."""
        return f"badges/{self.boards[board]}{f'--{self.rows[row]}' if row else ''}.svg"

    def examples(self, key: str) -> str:
        """Page of a system's results by example."""
        return f"examples/{self.rows[key]}.html"

    def export(self, row: str) -> str:
        """Document of a system in the format of Every Eval Ever."""
        name = uuid.UUID(digest(row)[:32], version=4)
        return f"every_eval_ever/data/{DEVELOPER}/{DEVELOPER}/{row}/{name}.json"

    def compare(self, key: str) -> str:
        """Page that compares the systems of a board."""
        return f"boards/{self.boards[key]}-compare.html"

    def transfer(self, key: str) -> str:
        """Page of the transfer matrix of a board."""
        return f"boards/{self.boards[key]}-transfer.html"

    def source(self, key: str) -> str:
        """Page of a publication."""
        return f"published/{slug(key)}-{digest(key)[:6]}.html"

    def listing(self, key: str, protocol: str) -> str:
        """Downloads of one table of a publication, without the extension."""
        return f"{stem(self.source(key))}-{slug(protocol)}-{digest(protocol)[:6]}"

    def attack(self, name: str) -> str:
        """Page of an attack."""
        return _attack_path(name)

    def record(self, key: str) -> str:
        """Copy of a record."""
        return record_path(key)


@functools.lru_cache(1024)
def _attack_path(name: str) -> str:
    return f"attacks/{slug(name)}-{digest(name)[:6]}.html"


HASH = re.compile("[0-9a-f]{16,64}")


def record_path(key: str) -> str:
    """Path of the copy of a record; a key that is not a hash is hashed, since it might be a path."""
    return f"records/{key if HASH.fullmatch(key) else digest(key)[:24]}.json"


def paths_of(leaderboard: Leaderboard) -> Paths:
    """Paths with readable names, made unique by a part of the key."""
    boards: dict[str, str] = {}
    rows: dict[str, str] = {}
    for board in leaderboard.boards:
        of = board.protocol
        named = slug(f"{of.conditions.suite or 'free'} {of.conditions.dataset} {of.conditions.norm} {of.eps_exact}")
        boards[of.key] = f"{named}-{digest(of.key)[:8]}"
        for row in board.rows:
            named = slug(" ".join([row.system.dataset, row.system.model, *row.system.defenses]))
            rows[row.key] = f"{named}-{digest(row.key)[:8]}"
    return Paths(boards, rows)


def stem(path: str) -> str:
    """Path of a page without its extension, for the downloads beside it."""
    return path.removesuffix(".html")


def digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
