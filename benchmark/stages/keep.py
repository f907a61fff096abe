"""keep: write outcomes, witness, gallery and prepared tensors into the work folder of a cell."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmark.config.describe import MASK
from benchmark.data import Examples
from benchmark.hooks.events import Gallery
from benchmark.records.outcomes import GALLERY, OUTCOMES, SITES, WITNESS, Outcomes
from benchmark.records.witness import Witness
from benchmark.stages.prepare import PREPARED, Prepared
from benchmark.threat import Region, RegionKind
from benchmark.threat.mask import read_mask

__all__ = ["FILES", "gallery_of", "keep"]

FILES = (OUTCOMES, WITNESS, GALLERY, PREPARED, MASK)
"""Files that may be beside a record."""

GALLERY_EXAMPLES = 6
"""Largest number of examples in a cell's gallery."""

GALLERY_BYTES = 1 << 22
"""Largest total size of the images of a stored gallery, in bytes."""


def keep(
    parts: Path, work: Path, examples: Examples, outcomes: Outcomes, region: Region, *, images: bool
) -> Gallery | None:
    """Write the files of a finished attack, and return its gallery.

    Args:
        parts: the folder of the finished batches, with the joined witness. work: where the files go.
        examples: the cell's example list. images: True if they are images.
        region: of the threat, whose mask is stored if it came from a file.
    """
    outcomes.save(work / OUTCOMES)
    (parts / WITNESS).replace(work / WITNESS)
    (work / GALLERY).unlink(missing_ok=True)
    if region.kind is RegionKind.file:
        save_file({"mask": torch.from_numpy(read_mask(Path(region.path)))}, work / MASK)
    gallery = gallery_of(examples, outcomes, work / WITNESS) if images else None
    if gallery is not None:
        fits = GALLERY_BYTES // (2 * 4 * gallery.clean[0].numel())
        if fits:
            save_file({name: value[:fits].contiguous() for name, value in gallery.tensors().items()}, work / GALLERY)
    prepared = Prepared.load(parts)
    if prepared is not None:
        save_file(prepared.tensors, work / PREPARED)
    return gallery


def gallery_of(examples: Examples, outcomes: Outcomes, witness: Path) -> Gallery | None:
    """Broken examples, then other adversarial ones, each in the order of the example list; None if there are none."""
    found = outcomes.adversarial.nonzero().flatten()
    if not len(found):
        return None
    broken = outcomes.broken[found]
    rows = torch.cat([broken.nonzero(), (~broken).nonzero()]).flatten()[:GALLERY_EXAMPLES]
    at = found[rows]
    return Gallery(
        ids=outcomes.ids[at],
        y=outcomes.y[at],
        clean=examples.x(at),
        adv=torch.cat([Witness.load(witness, row, row + 1).x_adv for row in rows.tolist()]),
        clean_label=outcomes.clean_label[at],
        adv_label=outcomes.adv_label[at],
        **{name: value[at] for name in SITES if (value := getattr(outcomes, name)) is not None},
    )
