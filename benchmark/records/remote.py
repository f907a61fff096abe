"""Stores on object storage, named by URL: mirrored into a local cache for reading, through fsspec.

Commands that read get a local folder, :func:`fetched`: files that the storage lists with another version (ETag, size,
times) than the mirror has are downloaded, and files that it no longer lists are removed. Commands that compute need
file locks, which object storage lacks, and refuse a URL, :func:`lockable`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.errors import ConfigError, MissingPackage, StoreError
from benchmark.records.document import content_key
from benchmark.records.durable import write_atomic

__all__ = ["fetched", "is_url", "lockable", "send"]

CHANGING = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "created", "updated")
"""Fields of a listing that change with the content of a file, as the file systems of fsspec name them."""

PARTS = ("cells", "systems", "transfer")
"""Folders of a store that are mirrored."""

HEADS = ("record.json", "card.json")
"""Files with the sha256 of the others in their folder; written last, since readers take them for a sign of the rest."""

AT_ONCE = 1000
"""Number of files to download before they are noted as present."""


def is_url(place: str | Path) -> bool:
    """True if a place is a URL such as s3://bucket/results, not a path."""
    return isinstance(place, str) and "://" in place


def lockable(place: str | Path) -> str | Path:
    """The place of a store to compute in.

    Raises:
        ConfigError: if it is a URL.
    """
    if is_url(place):
        raise ConfigError(
            f"the store {place} is on object storage, which has no locks, and computing needs them; compute in a "
            f"folder, and copy it with benchmark store merge FOLDER --store {place}"
        )
    return place


def fetched(
    place: str | Path, *, systems: bool = False, only: Callable[[str], bool] | None = None, new: bool = False
) -> Path:
    """Local folder of a store, or of cells: a path as it is, a URL as an up-to-date mirror in the cache.

    The cache is `adversarial-benchmark/stores` in $XDG_CACHE_HOME, by default ~/.cache.

    Args:
        place: a path, or the URL of a store, of its cells, or of a folder of published cells.
        systems: also mirror the weights of the systems, not only their cards.
        only: mirror only the cells and systems whose key passes. new: the URL may have nothing yet.

    Raises:
        StoreError: if the URL has nothing, or cannot be read. MissingPackage: if its file system is not installed.
    """
    if not is_url(place):
        return Path(place)
    mirror, inside = _mirror_of(str(place))
    with _locked(mirror.folder), _reported(mirror.url):
        listed = mirror.listing(inside)
        if not listed and not new:
            raise StoreError(f"there is nothing at {place}; name a store, its cells, or a folder of cells")

        def wanted(name: str) -> bool:
            kind, _, rest = name.partition("/")
            key, _, file = rest.partition("/")
            chosen = only is None or kind not in ("cells", "systems") or only(key)
            return chosen and (systems or kind != "systems" or file == "card.json")

        mirror.update(listed, inside, wanted)
    return mirror.folder / inside


def send(root: Path, folders: Sequence[Path], url: str) -> None:
    """Upload folders of a local store to the store at a URL; the record or card of each arrives after its other files.

    Raises:
        StoreError: if the URL cannot be written. MissingPackage: if its file system is not installed.
    """
    mirror, _ = _mirror_of(url)
    with _reported(url):
        for start in range(0, len(folders), AT_ONCE):
            some = folders[start : start + AT_ONCE]
            paths = [path for folder in some for path in sorted(folder.iterdir())]
            for heads in (False, True):
                chosen = [path for path in paths if (path.name in HEADS) is heads]
                places = [f"{mirror.base}/{path.relative_to(root).as_posix()}" for path in chosen]
                mirror.system.put([str(path) for path in chosen], places)


@dataclass(frozen=True)
class _Mirror:
    """A store at a URL and its copy. base: the URL as `system` names it. folder: the copy."""

    url: str
    system: Any
    base: str
    folder: Path

    @property
    def note(self) -> Path:
        """The versions of the files in the copy."""
        return self.folder.with_name(f"{self.folder.name}.json")

    def find(self, place: str) -> dict[str, Mapping[str, Any]]:
        """Every file below a place, with what the storage says about it.

        Raises:
            OSError: or an error of the file system, if any folder cannot be listed.
        """
        from fsspec.asyn import AsyncFileSystem
        from fsspec.spec import AbstractFileSystem

        finds = type(self.system)._find if self.system.async_impl else type(self.system).find
        walks = finds in (AsyncFileSystem._find, AbstractFileSystem.find)  # which would pass over errors
        try:
            found: dict[str, Mapping[str, Any]] = self.system.find(
                place, detail=True, **({"on_error": "raise"} if walks else {})
            )
        except FileNotFoundError:
            if self.system.exists(place):  # something below it was removed meanwhile
                raise
            return {}
        return found

    def listing(self, inside: str) -> dict[str, Mapping[str, Any]]:
        """Files of the store by name relative to it; of the cells only those below `inside`."""
        self.system.invalidate_cache()
        cells = self.find(f"{self.base}/{inside or PARTS[0]}")
        if not cells and not inside:  # a folder of published cells, not a store
            cells = self.find(self.base)
        elif cells:
            for part in PARTS[1:]:
                cells |= self.find(f"{self.base}/{part}")
        named = {name.removeprefix(self.base).strip("/"): info for name, info in cells.items()}
        for name in named:
            if ".." in name.split("/") or "\\" in name or name.startswith("/"):
                raise StoreError(f"{self.url} has a file named {name!r}, which is no path below it; remove that file")
        return {name: info for name, info in named.items() if not any(p[:1] in ("", ".") for p in name.split("/"))}

    def update(self, listed: Mapping[str, Mapping[str, Any]], inside: str, wanted: Callable[[str], bool]) -> None:
        """Download the wanted files that the copy lacks or has in another version; remove those no longer listed."""
        try:
            known = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        copies = [path for part in PARTS for path in (self.folder / part).rglob("*") if path.is_file()]
        for name in {*known, *(path.relative_to(self.folder).as_posix() for path in copies)} - {*listed}:
            asked = not inside or name.startswith(f"{inside}/") or not name.startswith(f"{PARTS[0]}/")
            if asked and wanted(name):
                (self.folder / name).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # there are other files
                    (self.folder / name).parent.rmdir()
                known.pop(name, None)
        versions = {name: _version(info) for name, info in listed.items() if wanted(name)}
        missing = [
            name
            for name, version in versions.items()
            if not version or known.get(name) != version or not (self.folder / name).is_file()
        ]
        missing.sort(key=lambda name: (PurePosixPath(name).name in HEADS, name))
        for start in range(0, len(missing), AT_ONCE):
            names = missing[start : start + AT_ONCE]
            self._download(names)
            known |= {name: versions[name] for name in names}
            write_atomic(self.note, json.dumps(known))

    def _download(self, names: Sequence[str]) -> None:
        """Download files beside the copy, then rename each to its place."""
        arriving = self.folder.with_name(f"{self.folder.name}.arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        places = [arriving / str(number) for number in range(len(names))]
        self.system.get([f"{self.base}/{name}" for name in names], [str(place) for place in places])
        for name, place in zip(names, places, strict=True):
            final = self.folder / name
            final.parent.mkdir(parents=True, exist_ok=True)
            place.replace(final)
        arriving.rmdir()


def _mirror_of(url: str) -> tuple[_Mirror, str]:
    """Mirror of the store at a URL, and the place in it that the URL names: "" for the whole, or below `cells`."""
    import fsspec

    scheme, _, path = url.partition("://")
    parts = [part for part in path.split("/") if part]
    at = parts.index(PARTS[0]) if PARTS[0] in parts else len(parts)
    root, inside = f"{scheme}://{'/'.join(parts[:at])}", "/".join(parts[at:])
    with _reported(url):
        system, base = fsspec.core.url_to_fs(root)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adversarial-benchmark" / "stores"
    return _Mirror(root, system, base.rstrip("/"), cache / content_key(root)), inside


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold other processes back from updating the same mirror."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        yield


@contextlib.contextmanager
def _reported(url: str) -> Iterator[None]:
    """Turn the errors of a file system, whose classes are its own, into sentences."""
    try:
        yield
    except (StoreError, MissingPackage):
        raise
    except ImportError as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(url.partition("://")[0])
        cure = f"pip install 'adversarial-benchmark[{extra}]'" if extra else f"install what it names: {error}"
        raise MissingPackage(f"{url} needs a package that is not installed; {cure}") from error
    except Exception as error:
        raise StoreError(
            f"{url} cannot be read or written ({type(error).__name__}: {error}); check the URL, the network and the "
            "credentials"
        ) from error


def _version(info: Mapping[str, Any]) -> str:
    """Version of a file in a listing, "" if the listing does not tell it."""
    told = [f"{name}={info[name]}" for name in CHANGING if info.get(name)]
    return " ".join([*told, f"size={info.get('size')}"]) if told else ""
