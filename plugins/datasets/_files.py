"""Published files of a dataset: found in their folder or downloaded into it, and checked before use."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import secrets
import shutil
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.api import DataError
from benchmark.records.document import content_key
from benchmark.records.durable import file_sha256


@dataclass(frozen=True)
class Source:
    """One published file: its URL and its sha256.

    unpacked: sha256 of the content of a gzip file, if packages distribute it with another gzip header; None otherwise.
    """

    url: str
    sha256: str
    unpacked: str | None = None

    @property
    def name(self) -> str:
        """Name of the file, the last part of the URL."""
        return self.url.rpartition("/")[2]

    def matches(self, path: Path) -> bool:
        """True if the file is the published one, or a gzip file with the same content."""
        if file_sha256(path) == self.sha256:
            return True
        if self.unpacked is None:
            return False
        digest = hashlib.sha256()
        try:
            with gzip.open(path) as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        except (OSError, EOFError, zlib.error):
            return False
        return digest.hexdigest() == self.unpacked


def pinned(sources: Sequence[Source]) -> str:
    """Identifier of the content of `sources`, from their pinned checksums, without reading them."""
    return content_key([source.sha256 for source in sources])


def fetch(sources: Sequence[Source], folder: Path, *, offline: bool) -> list[Path]:
    """Files of `sources` in `folder`, in that order, each with the right checksum.

    Raises:
        DataError: if files are missing and cannot be downloaded, or have another content.
    """
    paths = [folder / source.name for source in sources]
    missing = [(source, path) for source, path in zip(sources, paths, strict=True) if not path.is_file()]
    if missing and offline:
        names = ", ".join(path.name for _, path in missing)
        if len(missing) == 1:
            where = missing[0][0].url
        else:
            where = " and ".join(sorted({f"{source.url.rpartition('/')[0]}/NAME" for source, _ in missing}))
        raise DataError(
            f"{folder} lacks {names}, and this run is offline; download from {where} into that folder, or run once "
            "with store.offline=false"
        )
    for source, path in missing:
        _download(source, path)
    for source, path in zip(sources, paths, strict=True):
        if not source.matches(path):
            raise DataError(
                f"{path} has sha256 {file_sha256(path)}, expected {source.sha256}; remove it and download it again "
                f"from {source.url}"
            )
    return paths


def _download(source: Source, path: Path) -> None:
    """Download to a temporary file and rename it, so that readers never see a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as stream, urllib.request.urlopen(source.url, timeout=60) as answer:
            shutil.copyfileobj(answer, stream)
        found = file_sha256(temporary)
        if found != source.sha256:
            raise DataError(
                f"{source.url} sent a file with sha256 {found}, expected {source.sha256}; place the right {path.name} "
                f"in {path.parent} manually"
            )
        temporary.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{path.parent} lacks {path.name}, and its download failed ({error}); place the file there manually from "
            f"{source.url}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
