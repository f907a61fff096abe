"""Pictures: PNG that decode to the pixels given, the rule that chooses, the budget, and galleries that are refused."""

import base64
import dataclasses
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_leaderboard.build import build
from benchmark_leaderboard.cells import gallery as gallery_module
from benchmark_leaderboard.cells.cell import Cell
from benchmark_leaderboard.cells.gallery import Pictures, exhibits, png, read_pictures
from benchmark_leaderboard.site.render import Extras, render
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmark.errors import RecordError
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256
from benchmark.records.record import FileInfo, read_record
from tests.leaderboard.made_board import made_leaderboard
from tests.leaderboard.made_records import made_cell
from tests.leaderboard.test_render import Page


def decoded(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a PNG without filters, by the specification: chunks, checksums, scan lines."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + content),)
        chunks[kind], at = content, at + 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape((height, width) if colour == 0 else (height, width, 3))


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (5, 7), (4, 6, 3)])
def test_a_png_decodes_to_its_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(decoded(png(pixels)), pixels)


def pictures(count: int = 3, side: int = 4, far: int = -1) -> Pictures:
    """Grey images, changed by 0.1 in one pixel; example `far` by 0.2."""
    clean = np.full((count, 1, side, side), 0.5, np.float32)
    adv = clean.copy()
    adv[:, 0, 0, 0] += 0.1
    if far >= 0:
        adv[far, 0, 0, 0] += 0.1
    ids = np.arange(count, dtype=np.int64) + 40
    return Pictures(ids, ids % 10, clean, adv, ids % 10, np.where(ids == 40, -1, 7))


def address(url: str) -> NDArray[np.uint8]:
    return decoded(base64.b64decode(url.removeprefix("data:image/png;base64,")))


def test_an_exhibit_shows_broken_examples_with_their_measured_norms() -> None:
    leaderboard, _ = made_leaderboard()
    board = leaderboard.boards[0]
    (one,), wrong = exhibits([(board, board.rows[0])], lambda _: pictures(far=1))
    assert not wrong
    assert [picture.id for picture in one.pictures] == [40, 42]
    first = one.pictures[0]
    assert (first.y, first.clean_label, first.adv_label, first.changed, first.values) == (0, 0, -1, 1, 16)
    assert first.linf == first.l2 == pytest.approx(0.1)
    assert first.gain == pytest.approx(5)
    assert address(first.clean).tolist() == [[128] * 4] * 4
    assert address(first.adv)[0, :2].tolist() == [153, 128]
    assert address(first.difference)[0, :2].tolist() == [255, 128]


def test_the_attack_that_left_least_is_shown_or_else_the_next_one() -> None:
    leaderboard, _ = made_leaderboard()
    board, row = leaderboard.boards[0], leaderboard.boards[0].rows[0]
    order = [at for _, at in sorted((s.robust.value, at) for at, s in enumerate(row.scores) if s is not None)]
    keys = [score.keys[0] for score in row.scores if score is not None]
    (one,), _ = exhibits([(board, row)], lambda _: pictures())
    assert one.column == board.columns[order[0]]
    (other,), _ = exhibits([(board, row)], lambda key: pictures() if key == keys[order[1]] else None)
    assert (other.column, other.key) == (board.columns[order[1]], keys[order[1]])
    assert exhibits([(board, row)], lambda _: None) == ([], [])


def test_a_page_has_a_budget_for_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    leaderboard, _ = made_leaderboard()
    entries = [(leaderboard.boards[0], leaderboard.boards[0].rows[0])]
    (whole,), _ = exhibits(entries, lambda _: pictures())
    size = sum(len(whole.pictures[0].clean) for _ in range(3))
    monkeypatch.setattr(gallery_module, "PAGE_BYTES", 2 * size)
    (part,), _ = exhibits(entries, lambda _: pictures())
    assert part.pictures == whole.pictures[:2]


def test_large_images_are_shown_as_means_over_blocks() -> None:
    leaderboard, _ = made_leaderboard()
    (one,), _ = exhibits([(leaderboard.boards[0], leaderboard.boards[0].rows[0])], lambda _: pictures(1, side=130))
    shown = address(one.pictures[0].adv)
    assert shown.shape == (43, 43)
    assert (one.pictures[0].width, one.pictures[0].height) == (130, 130)
    assert shown[0, 0] == round(255 * (0.5 + 0.1 / 9))


def test_the_page_of_a_system_has_its_pictures_with_words_for_them() -> None:
    leaderboard, records = made_leaderboard(2, 2)
    files = dict(render(leaderboard, records, Extras(pictures=lambda _: pictures())))
    text = next(text for path, text in files.items() if path.startswith("systems/") and path.endswith(".html"))
    assert text.count("<img ") == 9
    assert re.findall(r'alt="([^"]*)"', text)[:3] == [
        "Example 40, clean, label 0", "The same example, attacked, rejected", "The difference, multiplied by 5",
    ]  # fmt: skip
    assert "0, rejected. Example 40: L\u221e 0.1, L2 0.1, 1 of 16 values changed; difference \u00d75" in Page(text).text
    assert all(load.startswith("data:") for load in Page(text).loads)


def cell_with(root: Path, arrays: dict[str, Any]) -> Cell:
    folder = made_cell(root, clean=[True, True], distance=[0.05, 0.2])
    save_file(arrays, folder / "gallery.safetensors")
    path = folder / "gallery.safetensors"
    record = read_record(folder)
    file = FileInfo(path=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))
    record = record.model_copy(update={"files": [*record.files, file]})
    (folder / "record.json").write_text(to_text(record), encoding="utf-8")
    return Cell.at(record, folder, "cells/x/record.json")


def arrays(**changed: Any) -> dict[str, Any]:
    written = {name: value for name, value in vars(pictures(2)).items() if value is not None}
    return {**written, **changed}


def test_a_gallery_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = read_pictures(cell_with(tmp_path, arrays()))
    assert found is not None
    for name, values in arrays().items():
        assert np.array_equal(getattr(found, name), values)


def test_a_cell_without_a_gallery_has_none(tmp_path: Path) -> None:
    folder = made_cell(tmp_path, clean=[True], distance=[0.05])
    save_file(arrays(), folder / "gallery.safetensors")
    assert read_pictures(Cell.at(read_record(folder), folder, "x")) is None


@pytest.mark.parametrize(
    ("sentence", "changed"),
    [
        ("y in the gallery.safetensors of .* is float32; expected int64", {"y": np.zeros(2, np.float32)}),
        ("adv_label in the gallery.safetensors of .* is .3.; expected .2.", {"adv_label": np.zeros(3, np.int64)}),
        ("has images .2, 1, 4, 4. and .2, 1, 4, 5.", {"adv": np.zeros((2, 1, 4, 5), np.float32)}),
        ("has pixels outside .0, 1.", {"clean": np.full((2, 1, 4, 4), np.nan, np.float32)}),
        ("has pixels outside .0, 1.", {"adv": np.full((2, 1, 4, 4), 1.5, np.float32)}),
        ("has images .2, 2, 4, 4.", {k: np.zeros((2, 2, 4, 4), np.float32) for k in ("clean", "adv")}),
        ("has images of 1 x 2000 pixels", {k: np.zeros((2, 1, 1, 2000), np.float32) for k in ("clean", "adv")}),
    ],
)
def test_a_gallery_that_no_run_wrote_is_refused(tmp_path: Path, sentence: str, changed: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match=sentence):
        read_pictures(cell_with(tmp_path, arrays(**changed)))


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b"no tensors"), lambda p: p.unlink()])
def test_a_gallery_that_cannot_be_read_is_named_on_the_page(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    cell = cell_with(tmp_path, arrays())
    spoil(cell.folder / "gallery.safetensors")
    site = build([tmp_path / "cells"], tmp_path / "site").parent
    (page,) = (site / "systems").glob("*.html")
    assert "the gallery.safetensors of" in page.read_text(encoding="utf-8")
    assert "<img" not in page.read_text(encoding="utf-8")


def test_answers_per_pixel_are_read_and_drawn() -> None:
    """Pictures of segmentation are in colour and larger; answers that fit no image are refused."""
    leaderboard, _ = made_leaderboard()
    board, plain = leaderboard.boards[0], pictures(2)
    label = np.zeros((2, 16), np.int16)
    label[:, 5] = 3
    painted = dataclasses.replace(plain, clean_sites=label, adv_sites=label)
    (one,), _ = exhibits([(board, board.rows[0])], lambda _: painted)
    first = address(one.pictures[0].clean)
    assert one.pictures[0].sites
    assert first.shape == (48, 48, 3)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) == 2


@pytest.mark.parametrize(("sites", "sound"), [((2, 16), True), ((2, 15), False)])
def test_a_gallery_with_answers_per_site_is_checked(sites: tuple[int, int], sound: bool, tmp_path: Path) -> None:
    drawn = np.zeros(sites, np.int16)
    cell = cell_with(tmp_path, arrays(clean_sites=drawn, adv_sites=drawn))
    if sound:
        found = read_pictures(cell)
        assert found is not None
        assert found.adv_sites is not None
        return
    with pytest.raises(RecordError, match="predictions per site that do not fit its"):
        read_pictures(cell)
