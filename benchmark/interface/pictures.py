"""HTML of results for notebooks: a table, notes, and inline images of broken examples."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_html"]

SIDE = 96
"""Length of the longer side of a shown image, in pixels."""

MOST = 6
"""Number of images shown per cell."""


def as_html(
    columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str], galleries: Sequence[Path]
) -> str:
    """Table with notes below it, and the images of those galleries that exist."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    shown = "".join(_gallery(path) for path in galleries if path.is_file())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{said}{shown}"


def _gallery(path: Path) -> str:
    """Clean image, adversarial image and perturbation, side by side, for each example of a gallery."""
    from safetensors.numpy import load_file

    found = load_file(str(path))
    figures = []
    for row in range(min(MOST, len(found["ids"]))):
        clean, adversarial = found["clean"][row], found["adv"][row]
        added = adversarial - clean
        most = float(np.abs(added).max()) or 1.0
        pictures = "".join(_picture(image) for image in (clean, adversarial, 0.5 + 0.5 * added / most))
        said = (
            f"example {found['ids'][row]}: {found['clean_label'][row]} becomes {found['adv_label'][row]}; "
            f"change at most {most:.3g}"
        )
        caption = f"<figcaption>{escape(said)}</figcaption>"
        figures.append(f"<figure style='display:inline-block;margin:4px'>{pictures}{caption}</figure>")
    return f"<div>{''.join(figures)}</div>"


def _picture(image: NDArray[Any]) -> str:
    """`img` element of an image (C, H, W) in [0, 1]; grey unless it has three or four channels."""
    from PIL import Image

    channels = image if len(image) in (3, 4) else image.mean(0, keepdims=True)
    values = np.rint(255 * channels.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
    out = io.BytesIO()
    Image.fromarray(values if values.shape[2] > 1 else values[:, :, 0]).save(out, "PNG")
    height, width = values.shape[:2]
    scale = SIDE / max(height, width)
    data = base64.b64encode(out.getvalue()).decode()
    return (
        f"<img src='data:image/png;base64,{data}' width='{round(width * scale)}' height='{round(height * scale)}' "
        "style='image-rendering:pixelated' alt=''>"
    )
