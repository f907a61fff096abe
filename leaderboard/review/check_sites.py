"""Predictions per site (pixels, cells) in a submitted file of outcomes."""

from __future__ import annotations

from benchmark.errors import RecordError

from ..cells.array_file import ArrayFile

__all__ = ["SITES", "check_sites"]

SITES = ("sites", "clean_sites", "adv_sites")
"""Labels of the sites, and the predictions on clean and attacked input: all of them, or none."""

MOST_SITES = 1 << 20


def check_sites(file: ArrayFile, rows: int) -> tuple[str, ...]:
    """Names of the arrays of sites, if the file has any.

    Raises:
        RecordError: if some are missing, or are not labels (rows, S, ...) int16 and predictions of the same sites.
    """
    found = [name for name in SITES if name in file.arrays]
    if not found:
        return ()
    kinds, shapes = zip(*(file.arrays[name][:2] for name in found), strict=True)
    sound = (
        len(found) == len(SITES)
        and kinds[0] == "I16"
        and kinds[1] == kinds[2]
        and kinds[1] in ("I16", "F32")
        and shapes[1] == shapes[2]
        and all(2 <= len(shape) <= 3 and shape[0] == rows and shape[1] <= MOST_SITES for shape in shapes)
        and len({shape[1] for shape in shapes}) == 1
    )
    if not sound:
        raise RecordError(
            f"{file.name} has no valid arrays {', '.join(SITES)}; expected labels int16, predictions of the same sites"
        )
    return SITES
