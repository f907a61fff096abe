"""Records in, site out: read, aggregate, render into a new folder, then put it in place of the old one.

The same records give the same bytes: no time, no machine, no order of the disk gets into a page.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import RecordError

from .aggregate import aggregate
from .load import read
from .render import MARKER, record_path, render

__all__ = ["build", "main"]


def build(results: Sequence[Path], out: Path) -> Path:
    """Build the site from the cells below `results` into the folder `out`; returns its index page.

    The site holds a copy of every record that it names. A reader sees the old site or the new one, never a mixture.

    Raises:
        RecordError: if `out` exists and is not a site that this made, so that nobody's folder is replaced.
    """
    out = out.absolute()
    if out.exists() and not (out / MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RecordError(f"{out} exists and is no leaderboard site; choose an empty or a new folder for it")
    cells, problems = read(results)
    leaderboard = aggregate(cells, problems)
    records = {cell.record.key: cell.record for cell in cells}
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for path, text in render(leaderboard, records):
            _write(made / path, text)
        (made / "records").mkdir()
        for cell in cells:
            shutil.copyfile(cell.folder / "record.json", made / record_path(cell.record.key))
        made.chmod(0o755)
        _swap(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return out / "index.html"


def main(results: Sequence[Path], out: Path) -> int:
    """Build, and say where the site is; 0 for the shell."""
    sys.stdout.write(f"{build(results, out)}\n")
    return 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _swap(made: Path, out: Path) -> None:
    """Put `made` where `out` is; what was there before is left under the name of `made`, to be removed."""
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
