"""Images of attacked examples: clean, adversarial, and their amplified difference, as inline PNG.

The shown examples follow a rule: the first broken ones of the example list, under the strongest attack. The PNG files
are written here, uncompressed, so that their bytes are the same on every machine.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from benchmark.errors import RecordError
from benchmark.threat.radius import tolerance

from ..board import ANY_CHANGE, AttackColumn, Board, Row
from .cell import Cell
from .overlays import ANSWERS, drawable, overlaid

__all__ = ["GALLERY", "Exhibit", "Picture", "Pictures", "exhibits", "png", "read_pictures"]

GALLERY = "gallery.safetensors"
MOST_PICTURES = 6
SIDE = 64
"""Largest side of a shown image in pixels; larger images are averaged over blocks."""
PAGE_BYTES = 100_000
"""Largest size of the images on a page, in bytes."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Gallery of a cell. ids, y, clean_label, adv_label: (M,) int64. clean, adv: (M, C, H, W) float32 in [0, 1].

    clean_sites, adv_sites: predictions per pixel (M, H * W) int16, or detections (M, S, 6) float32; None where an
    example has one label.
    """

    ids: NDArray[np.int64]
    y: NDArray[np.int64]
    clean: NDArray[np.float32]
    adv: NDArray[np.float32]
    clean_label: NDArray[np.int64]
    adv_label: NDArray[np.int64]
    clean_sites: NDArray[Any] | None = None
    adv_sites: NDArray[Any] | None = None


@dataclass(frozen=True)
class Picture:
    """One example on a page. clean, adv, difference: data URLs. gain: amplification of the difference.

    linf, l2: measured from the images. changed: number of different values, of `values`. sites: True if predictions per
    pixel or boxes are drawn over the images; the labels are then 1 for correct and 0 for wrong.
    """

    id: int
    y: int
    clean_label: int
    adv_label: int
    clean: str
    adv: str
    difference: str
    gain: float
    linf: float
    l2: float
    changed: int
    values: int
    width: int
    height: int
    sites: bool = False


@dataclass(frozen=True)
class Exhibit:
    """Images of one board on a page, with the attack and its record."""

    board: Board
    column: AttackColumn
    key: str
    pictures: tuple[Picture, ...]


def read_pictures(cell: Cell) -> Pictures | None:
    """Gallery beside a record, None if the record names none.

    Raises:
        RecordError: if the record's run could not have written it.
    """
    if GALLERY not in [file.path for file in cell.record.files]:
        return None
    names = ("ids", "y", "clean", "adv", "clean_label", "adv_label")
    try:
        with safe_open(cell.folder / GALLERY, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in names}
            _check_shapes(cell, shapes)
            found: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in names}
            drawn = {name: file.get_tensor(name) for name in ANSWERS if name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RecordError(f"the {GALLERY} of {cell.place} cannot be read: {error}") from error
    for name, values in found.items():
        kind = "float32" if name in ("clean", "adv") else "int64"
        if values.dtype != kind:
            raise RecordError(f"{name} in the {GALLERY} of {cell.place} is {values.dtype}; expected {kind}")
    for name in ("clean", "adv"):
        if not ((found[name] >= 0) & (found[name] <= 1)).all():
            raise RecordError(f"{name} in the {GALLERY} of {cell.place} has pixels outside [0, 1]")
    if drawn and not drawable(drawn, found["clean"].shape):
        raise RecordError(f"the {GALLERY} of {cell.place} has predictions per site that do not fit its images")
    return Pictures(**found, **drawn)


def exhibits(
    entries: Sequence[tuple[Board, Row]], read: Callable[[str], Pictures | None]
) -> tuple[list[Exhibit], list[str]]:
    """Images for a system's page: per board those of the strongest attack with any, within the size limit.

    Args:
        read: returns the gallery of a cell by its key.

    Returns:
        The images, and the faults of galleries that cannot be shown.
    """
    found: list[Exhibit] = []
    wrong: list[str] = []
    left = PAGE_BYTES
    for board, row in entries:
        for column, key in _strongest(board, row):
            try:
                pictures = read(key)
            except RecordError as error:
                wrong.append(str(error))
                continue
            shown = []
            for picture in _pictures(pictures, board.protocol.conditions.norm, board.protocol.eps) if pictures else ():
                left -= len(picture.clean) + len(picture.adv) + len(picture.difference)
                if left < 0:
                    break
                shown.append(picture)
            if shown:
                found.append(Exhibit(board, column, key, tuple(shown)))
                break
    return found, wrong


def png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG file (RFC 2083) of pixels (H, W) in grey or (H, W, 3) in colour, in stored blocks."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _check_shapes(cell: Cell, shapes: dict[str, list[int]]) -> None:
    images = shapes["clean"]
    if len(images) != 4 or images != shapes["adv"] or not 1 <= images[0] <= MOST_PICTURES or images[1] not in (1, 3):
        raise RecordError(
            f"the {GALLERY} of {cell.place} has images {images} and {shapes['adv']}; expected twice "
            f"(M, C, H, W) with M up to {MOST_PICTURES} and C 1 or 3"
        )
    if min(images[2:]) < 1 or max(images[2:]) > 1024:
        raise RecordError(f"the {GALLERY} of {cell.place} has images of {images[2]} x {images[3]} pixels")
    for name in ("ids", "y", "clean_label", "adv_label"):
        if shapes[name] != images[:1]:
            raise RecordError(f"{name} in the {GALLERY} of {cell.place} is {shapes[name]}; expected [{images[0]}]")


def _strongest(board: Board, row: Row) -> Iterator[tuple[AttackColumn, str]]:
    """Cells of a row, those of the strongest attack first."""
    tried = [(s.robust.value, at, s.keys) for at, s in enumerate(row.scores) if s is not None]
    for _, at, keys in sorted(tried):
        for key in keys:
            yield board.columns[at], key


def _size(delta: np.ndarray, norm: str) -> float:
    """Length of a change in the norm of that name, lp for the order p."""
    return float(np.linalg.norm(delta.ravel(), float(norm.removeprefix("l"))))


def _pictures(of: Pictures, norm: str, eps: float) -> Iterator[Picture]:
    """Examples with an adversarial image within the radius, up to rounding."""
    for at in range(len(of.ids)):
        clean, adv = of.clean[at], of.adv[at]
        delta = adv.astype(np.float64) - clean
        largest = float(np.abs(delta).max())
        if largest == 0 or (norm != ANY_CHANGE and _size(delta, norm) > eps + tolerance(norm, eps)):
            continue
        gain = 0.5 / largest
        yield Picture(
            id=int(of.ids[at]),
            y=int(of.y[at]),
            clean_label=int(of.clean_label[at]),
            adv_label=int(of.adv_label[at]),
            clean=_address(clean if of.clean_sites is None else overlaid(clean, of.clean_sites[at])),
            adv=_address(adv if of.adv_sites is None else overlaid(adv, of.adv_sites[at])),
            sites=of.adv_sites is not None,
            difference=_address(0.5 + gain * delta),
            gain=gain,
            linf=largest,
            l2=float(np.sqrt((delta**2).sum())),
            changed=int((delta != 0).sum()),
            values=delta.size,
            width=clean.shape[2],
            height=clean.shape[1],
        )


def _address(image: NDArray[np.floating[Any]]) -> str:
    """Data URL of an image (C, H, W) in [0, 1]."""
    channels, height, width = image.shape
    block = -(-max(height, width) // SIDE)
    if block > 1:
        tall, wide = min(block, height), min(block, width)
        kept = image[:, : height // tall * tall, : width // wide * wide]
        blocks = kept.reshape(channels, height // tall, tall, width // wide, wide)
        image = blocks.mean(axis=(2, 4), dtype=np.float64)
    pixels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    flat = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    return f"data:image/png;base64,{base64.b64encode(png(flat)).decode()}"
