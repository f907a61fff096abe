"""Fetch a published system into a store, so that anybody can attack it without training it again.

The published records decide which weights are those of a key. Weights and card are data: no code of the source runs.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from benchmark.errors import RecordError
from benchmark.records.card import Card
from benchmark.records.durable import file_sha256
from benchmark.records.record import Record
from benchmark.records.store import Store

from .cells.array_file import open_arrays
from .cells.load import read
from .review.check_cell import CARD, WEIGHTS, checked_card
from .review.parcel import LARGEST, LARGEST_TEXT, opened
from .site.notes import NOTES, read_notes
from .words.wording import commands

__all__ = ["fetch", "main"]

POISON = "poison.safetensors"
CHUNK_BYTES = 1 << 20
REMOTE = ("http://", "https://")
ANSWER_SECONDS = 60
"""Time without an answer after which a download fails."""


def main(key: str, source: str, results: Sequence[Path], store: Path) -> int:
    """Put a published system into the store, and print where it is and how to attack it; returns 0.

    Args:
        source: a folder, a submission, or the URL of the weights; "" for the address in `systems.json`.
    """
    record = _published(key, results)
    home = Store(store)
    if _stored(home, record):
        sys.stdout.write(f"{home.system(key)} has the published weights of {record.system.name} already\n")
    else:
        fetch(record, source or _address(record, results), home)
        sys.stdout.write(f"{home.system(key)} has the published weights of {record.system.name}\n")
    for line in commands([record]) if record.provenance.get("overrides") else ():
        sys.stdout.write(f"attack it, by this or another attack: {line}\n")
    return 0


def fetch(record: Record, source: str, store: Store) -> Card:
    """Put the card and the weights of a published record's system into the store; returns the card.

    Args:
        source: a store, a submission (folder or zip) or a folder with both files; or the URL of the weights, with the
            card beside it.

    Raises:
        RecordError: if a file is missing or too large, the card is not that of the record, or the weights have another
            sha256.
    """
    key = record.system.key
    store.root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".fetch-", dir=store.root)), key)
        folder.mkdir()
        if not source.startswith(REMOTE) and Path(source).is_file():
            source = str(stack.enter_context(opened(Path(source))))
        places = _places(source, key)
        _copy(places[CARD], folder / CARD, LARGEST_TEXT)
        card = checked_card(folder)
        own = (record.system, record.seed, record.dataset_revision, record.weights_sha256)
        if (card.system, card.seed, card.dataset_revision, card.weights_sha256) != own:
            raise RecordError(
                f"{places[CARD]} is the card of another system than the published {key}, or names other weights than "
                f"its {record.weights_sha256}; ask the owner of the row for the published ones"
            )
        _copy_checked(places[WEIGHTS], folder / WEIGHTS, card.weights_sha256)
        if card.poison_sha256:
            _copy_checked(places[POISON], folder / POISON, card.poison_sha256)
        with store.lock(f"system-{key}"):
            store.put(folder, store.system(key))
    return card


def _published(key: str, results: Sequence[Path]) -> Record:
    """First published record of the system with this key."""
    cells, _ = read(results)
    found = [c.record for c in cells if c.record.system.key == key and c.record.status == "complete"]
    if not found:
        raise RecordError(
            f"no published record under {', '.join(map(str, results))} is of system {key[:80]!r}; expected the system "
            "key of 24 hexadecimal digits from the page of a system"
        )
    return found[0]


def _stored(store: Store, record: Record) -> bool:
    """True if the store has the published system, whole."""
    card = store.card(record.system.key)
    return card is not None and card.weights_sha256 == record.weights_sha256 and not store.differs(card)


def _address(record: Record, results: Sequence[Path]) -> str:
    """URL of the weights according to their authors."""
    notes = read_notes(results).values()
    found = [note.weights for note in notes if note.weights and note.weights_sha256 == record.weights_sha256]
    if not found:
        raise RecordError(
            f"the weights of system {record.system.key} are not published: no {NOTES} gives a URL for sha256 "
            f"{record.weights_sha256}; name a folder, a submission or a URL that has them with --from"
        )
    return found[0]


def _places(source: str, key: str) -> dict[str, str]:
    """Path or URL of each file of the system."""
    if source.startswith(REMOTE):
        return {WEIGHTS: source} | {name: urljoin(source, name) for name in (CARD, POISON)}
    root = Path(source)
    root = root / "systems" / key if (root / "systems" / key).is_dir() else root
    return {name: str(root / name) for name in (CARD, WEIGHTS, POISON)}


def _copy_checked(source: str, to: Path, sha256: str) -> None:
    """Copy a safetensors file whose sha256 is known."""
    _copy(source, to, LARGEST)
    if (found := file_sha256(to)) != sha256:
        raise RecordError(
            f"{source} has sha256 {found}, but the published file has {sha256}; ask the owner of the row for that one"
        )
    open_arrays(to, to.name)


def _copy(source: str, to: Path, most: int) -> None:
    """Copy a file or the answer of a URL, of at most `most` bytes."""
    try:
        with _opened(source) as stream, to.open("xb") as made:
            left = most
            while left >= 0 and (block := stream.read(CHUNK_BYTES)):
                left -= len(block)
                made.write(block)
    except (OSError, http.client.HTTPException) as error:
        raise RecordError(
            f"{source} cannot be read ({error}); expected {CARD} and {WEIGHTS} of the published system beside each "
            "other, name their place with --from"
        ) from error
    if left < 0:
        raise RecordError(f"{source} has more than {most} bytes; expected a smaller file")


def _opened(source: str) -> BinaryIO:
    """Stream of a local file, or of a URL: https, or http to this machine, also after redirects."""
    if not source.startswith(REMOTE):
        return Path(source).open("rb")
    _check_url(source)
    answer: BinaryIO = urllib.request.urlopen(source, timeout=ANSWER_SECONDS)
    _check_url(answer.url)  # type: ignore[attr-defined]
    return answer


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    with contextlib.suppress(ValueError):
        if parts.scheme == "https" or host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    raise RecordError(f"{url} is not safe to download from; expected https, or http to this machine")
