"""Sound submissions of cells that nobody ran, and how to spoil them one fact at a time, hashes mended or not."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_leaderboard.review.parcel import MANIFEST, Manifest, Submitter
from benchmark_leaderboard.review.submission import pack_submission
from safetensors.numpy import load_file, save_file

from benchmark.records.card import Card
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256
from benchmark.records.record import FileInfo, Record, SplitInfo, read_record
from tests.leaderboard.made_records import made_cell

CLEAN = [True] * 8 + [False] * 2
FAR = [0.05, 0.08, 0.09, 0.2, *[np.inf] * 6]


def made_card(root: Path, record: Record) -> Path:
    """`systems/<key>/card.json` for the system of a made cell."""
    card = Card(
        key=record.system.key, system=record.system, seed=record.seed, init_from=None,
        dataset_revision=record.dataset_revision, splits={"test": SplitInfo(count=10, sha256=record.examples_sha256)},
        splits_disjoint=True, train_examples=100, poisoned_examples=0, epochs_run=1, selected_epoch=1,
        robust_selection=None, select_correct=9, select_total=10, test_correct=8, test_total=10, parameters=650,
        weights_sha256=record.weights_sha256, seconds=1.0,
    )  # fmt: skip
    folder = root / "systems" / card.key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(to_text(card), encoding="utf-8")
    return folder


def made_submission(root: Path, out: Path, **changes: Any) -> Path:
    """Pack one made cell; returns `out`. changes: as for `made_cell`."""
    folder = made_cell(
        root,
        **{
            "clean": CLEAN,
            "distance": FAR,
            "attack": "fmn",
            "minimal": True,
            "dataset": "made_up",
            "official": False,
            **changes,
        },
    )
    made_card(root, read_record(folder))
    pack_submission([folder], root, out, submitter=Submitter(name="Somebody"))
    return out


class Spoiler:
    """Changes one thing in an unpacked submission."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (self.cell,) = (root / "cells").iterdir()
        (self.system,) = (root / "systems").iterdir()

    def seal(self) -> None:
        """Make sizes and hashes of the record and the manifest those of the files, as a forger would."""
        path = self.cell / "record.json"
        document = json.loads(path.read_bytes())
        document["files"] = [self._file(self.cell / file["path"], file["path"]) for file in document["files"]]
        path.write_text(json.dumps(document), encoding="utf-8")
        self.seal_manifest()

    def seal_manifest(self) -> None:
        """Make sizes and hashes of the manifest those of the files."""
        files = [p for p in sorted(self.root.rglob("*")) if p.is_file() and p.name != MANIFEST]
        made = Manifest(
            submitter=Submitter(name="Somebody"),
            files=tuple(FileInfo(**self._file(p, p.relative_to(self.root).as_posix())) for p in files),
        )
        (self.root / MANIFEST).write_text(to_text(made), encoding="utf-8")

    @staticmethod
    def _file(path: Path, name: str) -> dict[str, Any]:
        return {"path": name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}

    def record(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Rewrite the record, and make the manifest fit."""
        self._json(self.cell / "record.json", change)

    def card(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Rewrite the card, without a checksum of its own, and make the manifest fit."""

        def unsealed(document: dict[str, Any]) -> None:
            change(document)
            document.pop("sha256", None)

        self._json(self.system / "card.json", unsealed)

    def _json(self, path: Path, change: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")
        self.seal_manifest()

    def raw_record(self, old: str, new: str) -> None:
        """Replace text in the record's file, once."""
        path = self.cell / "record.json"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8", errors="surrogateescape")
        self.seal_manifest()

    def manifest(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Rewrite the manifest."""
        path = self.root / MANIFEST
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")

    def arrays(self, file: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Rewrite arrays of a cell's file, and make every hash fit."""
        path = self.cell / file
        arrays = dict(load_file(path))
        change(arrays)
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, path)
        self.seal()

    def outcome(self, name: str, at: int | slice, value: Any) -> None:
        """Change one example in one array of the outcomes, and make every hash fit."""
        self.arrays("outcomes.safetensors", lambda a: a[name].__setitem__(at, value))

    def replace(self, file: str, content: bytes) -> None:
        """Other bytes in a file of the cell, and every hash made to fit."""
        (self.cell / file).write_bytes(content)
        self.seal()

    def header(self, file: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Rewrite the header of a safetensors file and nothing else, and make every hash fit."""
        raw = (self.cell / file).read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        document = json.loads(raw[8 : 8 + length])
        change(document)
        text = json.dumps(document).encode()
        self.replace(file, struct.pack("<Q", len(text)) + text + raw[8 + length :])
