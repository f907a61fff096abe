"""Build of the site from records: read, aggregate, render into a new folder, then replace the old one.

The same records give the same bytes: no time, machine or directory order enters a page.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.errors import RecordError

from .board import Leaderboard
from .cells.evidence import read_answers
from .cells.gallery import read_pictures
from .cells.load import RECORD, read, uncollected
from .cells.suspicion import read_suspicion
from .literature.published_numbers import load_published, read_reported
from .ranking.aggregate import aggregate
from .ranking.transfer import read_transfers
from .review.foreign import replays_of, with_replays
from .review.tiers import claimed, reviews_of
from .site.notes import read_notes, with_claims
from .site.paths import record_path
from .site.releases import read_releases
from .site.render import MARKER, Extras, board_names, render
from .site.single import single_file

__all__ = ["build", "build_single", "differences", "main"]


def build(results: Sequence[Path], out: Path, since: Sequence[Path] = ()) -> Path:
    """Build the site from the cells below `results` into the folder `out`; returns its index page.

    The site has a copy of every record that it names. A reader sees the old site or the new one, never a mixture.

    Args:
        since: the results of the last release, for a page of changes.

    Raises:
        RecordError: if `out` exists and was not built by this function, so that no other folder is replaced.
    """
    out = out.absolute()
    if out.exists() and not (out / MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RecordError(f"{out} exists and is not a leaderboard site; choose an empty or a new folder for it")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        with uncollected():
            _write(_files(results, since), made)
        made.chmod(0o755)
        _swap(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return out / "index.html"


def build_single(results: Sequence[Path], out: Path, board: str = "") -> Path:
    """Write one HTML file with everything in it, such as for the appendix of a paper; returns its path.

    Args:
        board: a part of the names of the boards to include; "" for all.

    Raises:
        RecordError: if no board has such a name, or `out` is a folder.
    """
    if out.is_dir():
        raise RecordError(f"{out} is a folder; --single-file writes one file, such as {out}.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = out.with_name(f".{out.name}.part")
    made.write_bytes(_single(results, board))
    made.replace(out)
    return out


def differences(results: Sequence[Path], out: Path, since: Sequence[Path] = ()) -> list[str]:
    """Files in which a site built now would differ from the one in `out`, sorted; nothing is written."""
    old = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    found = []
    with uncollected():
        for path, data in _files(results, since):
            if path not in old or (out / path).read_bytes() != data:
                found.append(path)
            old.discard(path)
    return sorted([*found, *old])


def main(
    results: Sequence[Path],
    out: Path,
    *,
    check: bool = False,
    single: bool = False,
    board: str = "",
    since: Sequence[Path] = (),
) -> int:
    """Build, and print the path of the site; returns 0.

    Args:
        check: build nothing, and return 1 if the site in `out` differs from a new one in any byte; without a site, one
        is
            built in another process for the comparison. single, board: see `build_single`. since: see `build`.
    """
    if check:
        return _check(results, out, since)
    page = build_single(results, out, board) if single else build(results, out, since)
    sys.stdout.write(f"{page}\n")
    return 0


def _files(results: Sequence[Path], since: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Every file of the site: (path relative to its root, content)."""
    cells, problems = read(results)
    reviews, misfits = reviews_of(cells)
    transfers, faults = read_transfers(cells)
    named = {cell.record.key: cell for cell in cells}
    records = {key: cell.record for key, cell in named.items()}
    notes = read_notes(results)
    replays, broken = replays_of(cells)
    leaderboard = aggregate(cells, [*problems, *misfits, *faults, *broken], claimed(reviews))
    leaderboard = with_replays(with_claims(leaderboard, notes), replays)
    extras = Extras(
        pictures=lambda key: read_pictures(named[key]),
        suspicion=lambda key: read_suspicion(named[key]),
        notes=notes,
        replays=replays,
        answers=lambda key: read_answers(named[key]),
        published=(*load_published(), *read_reported(results)),
        reviews=reviews,
        before=_released(since) if since else None,
        transfers=transfers,
        releases=read_releases(results),
    )
    for path, text in render(leaderboard, records, extras):
        yield path, text.encode()
    for cell in cells:
        yield record_path(cell.record.key), (cell.folder / RECORD).read_bytes()


def _released(since: Sequence[Path]) -> Leaderboard:
    """Boards of the last release."""
    cells, problems = read(since)
    return aggregate(cells, problems, claimed(reviews_of(cells)[0]))


def _write(files: Iterable[tuple[str, bytes]], root: Path) -> None:
    folders = {""}
    for path, data in files:
        parent = path.rpartition("/")[0]
        if parent not in folders:
            (root / parent).mkdir(parents=True)
            folders.add(parent)
        (root / path).write_bytes(data)


def _single(results: Sequence[Path], board: str) -> bytes:
    cells, problems = read(results)
    reviews, misfits = reviews_of(cells)
    transfers, faults = read_transfers(cells)
    replays, broken = replays_of(cells)
    leaderboard = with_replays(aggregate(cells, [*problems, *misfits, *faults, *broken], claimed(reviews)), replays)
    if board:
        names = board_names(leaderboard)
        kept = tuple(one for one in leaderboard.boards if board in names[one.protocol.key])
        if not kept:
            raise RecordError(f"no board has {board!r} in its name; known boards: {', '.join(sorted(names.values()))}")
        keys = {one.protocol.key for one in kept}
        curves = tuple(of for of in leaderboard.curves if keys & set(of.boards))
        leaderboard = replace(leaderboard, boards=kept, curves=curves, problems=(), unfinished=())
    named = {cell.record.key: cell for cell in cells}
    records = {key: cell.record for key, cell in named.items()}
    extras = Extras(
        pictures=lambda key: read_pictures(named[key]),
        suspicion=lambda key: read_suspicion(named[key]),
        reviews=reviews,
        replays=replays,
        transfers=transfers,
    )
    return single_file(leaderboard, records, extras).encode()


def _check(results: Sequence[Path], out: Path, since: Sequence[Path]) -> int:
    """0 if the site is identical to a new one, else 1."""
    if not out.exists():
        with tempfile.TemporaryDirectory() as folder:
            _elsewhere(results, Path(folder, "site"), since)
            return _check(results, Path(folder, "site"), since)
    found = differences(results, out, since)
    for path in found[:10]:
        sys.stdout.write(f"differs: {path}\n")
    if found:
        sys.stdout.write(f"{len(found)} files of {out.name} do not match these records; build it again\n")
        return 1
    sys.stdout.write("byte-identical\n")
    return 0


def _elsewhere(results: Sequence[Path], out: Path, since: Sequence[Path]) -> None:
    """Build in another process, where sets have another order."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    given = [word for path in results for word in ("--results", str(path))]
    given += [word for path in since for word in ("--since", str(path))]
    subprocess.run(
        [sys.executable, "-m", "benchmark", "leaderboard", "build", *given, "--out", str(out)],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONHASHSEED": seed},
    )  # fmt: skip


def _swap(made: Path, out: Path) -> None:
    """Move `made` to `out`; the previous folder is left under the name of `made`, to be removed."""
    aside = made.with_name(f"{made.name}.old")
    with contextlib.suppress(FileNotFoundError):
        out.rename(aside)
    try:
        made.rename(out)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
