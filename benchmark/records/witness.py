"""The adversarial examples of a cell: the arrays of `witness.safetensors`.

Where a threat allows 256 values per feature and every value is one of them, `x_adv` is stored in bytes: k is k / 255.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.records.outcomes import WITNESS
from benchmark.threat.grid import BYTE_LEVELS, of_bytes, to_bytes

__all__ = ["WITNESS", "Witness", "decoded", "join_witnesses"]


@dataclass(frozen=True)
class Witness:
    """Adversarial examples that prove a cell's broken (and adversarial) rows.

    ids: (M,) int64. x_adv: (M, *S) float32.
    """

    ids: Tensor
    x_adv: Tensor

    @classmethod
    def load(cls, path: Path, start: int = 0, stop: int | None = None) -> Witness:
        """Read rows `start` to `stop` of a witness file, and no others."""
        from safetensors import safe_open

        with safe_open(str(path), "pt") as file:
            ids, x_adv = file.get_slice("ids")[start:stop], file.get_slice("x_adv")[start:stop]
        return cls(ids, decoded(x_adv))

    def save(self, path: Path, levels: int | None) -> None:
        """Write a witness file. levels: number of values that the threat allows to a changed feature, if limited."""
        from safetensors.torch import save_file

        packed = to_bytes(self.x_adv) if levels == BYTE_LEVELS else None
        x_adv = self.x_adv if packed is None else packed
        save_file({"ids": self.ids.clone(), "x_adv": x_adv.contiguous()}, str(path))


def decoded(x_adv: Tensor) -> Tensor:
    """Values of adversarial examples as a file holds them, float32: themselves, or k / 255 of bytes k."""
    return of_bytes(x_adv) if x_adv.dtype == torch.uint8 else x_adv


def join_witnesses(parts: Sequence[Path], path: Path, levels: int | None) -> None:
    """Write the witness of a cell from its finished batches, one after the other, without holding them in memory.

    The format is eight bytes of header length, a JSON header, then the raw tensors.

    parts: files with `witness.ids` and `witness.x_adv` (float32). levels: as for :meth:`Witness.save`.
    """
    packed = levels == BYTE_LEVELS and all(to_bytes(x_adv) is not None for x_adv in _pieces(parts, "x_adv"))
    header: dict[str, dict[str, object]] = {}
    at = 0
    for name, (kind, size) in {"ids": ("I64", 8), "x_adv": ("U8", 1) if packed else ("F32", 4)}.items():
        shapes = _shapes(parts, name)
        shape = [sum(rows for rows, *_ in shapes), *shapes[0][1:]]
        end = at + math.prod(shape) * size
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in header:
            for piece in _pieces(parts, name):
                made = to_bytes(piece) if packed and name == "x_adv" else piece
                assert made is not None
                out.write(made.contiguous().numpy().tobytes())
    temporary.replace(path)


def _shapes(parts: Sequence[Path], name: str) -> list[list[int]]:
    """Shapes of the tensors of one name, from the headers of the files."""
    from safetensors import safe_open

    found = []
    for part in parts:
        with safe_open(str(part), "pt") as file:
            found.append(list(file.get_slice(f"witness.{name}").get_shape()))
    return found


def _pieces(parts: Sequence[Path], name: str) -> Iterator[Tensor]:
    """Tensors of one name, file by file."""
    from safetensors import safe_open

    for part in parts:
        with safe_open(str(part), "pt") as file:
            yield file.get_tensor(f"witness.{name}")
