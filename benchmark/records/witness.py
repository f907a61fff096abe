"""The adversarial examples of a cell: the arrays of `witness.safetensors`.

Where a threat allows 256 values per feature and every value is one of them, `x_adv` is stored in bytes: k is k / 255.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.records.outcomes import WITNESS
from benchmark.threat.grid import BYTE_LEVELS, of_bytes, to_bytes

__all__ = ["WITNESS", "Witness", "join_witnesses"]


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
        return cls(ids, of_bytes(x_adv) if x_adv.dtype == torch.uint8 else x_adv)

    def save(self, path: Path, levels: int | None) -> None:
        """Write a witness file. levels: number of values that the threat allows to a changed feature, if limited."""
        from safetensors.torch import save_file

        packed = to_bytes(self.x_adv) if levels == BYTE_LEVELS else None
        x_adv = self.x_adv if packed is None else packed
        save_file({"ids": self.ids.clone(), "x_adv": x_adv.contiguous()}, str(path))


def join_witnesses(parts: Sequence[Path], path: Path, levels: int | None) -> None:
    """Write the witness of a cell from its finished batches, one after the other, without holding them in memory.

    parts: files with `witness.ids` and `witness.x_adv` (float32). levels: as for :meth:`Witness.save`.
    """
    fits = levels == BYTE_LEVELS and all(to_bytes(tensor) is not None for tensor in _read(parts, "witness.x_adv"))
    stored = {"ids": ("witness.ids", _unchanged), "x_adv": ("witness.x_adv", _as_bytes if fits else _unchanged)}
    _concatenate(parts, stored, path)


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _as_bytes(tensor: Tensor) -> Tensor:
    packed = to_bytes(tensor)
    assert packed is not None
    return packed


def _read(sources: Sequence[Path], name: str) -> Iterator[Tensor]:
    """Tensors of one name, file by file."""
    from safetensors import safe_open

    for source in sources:
        with safe_open(str(source), "pt") as file:
            yield file.get_tensor(name)


def _concatenate(
    sources: Sequence[Path], stored: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]], path: Path
) -> None:
    """Concatenate tensors of many safetensors files along the first axis, into one file.

    The format is eight bytes of header length, a JSON header, then the raw tensors.

    stored: from the name of a tensor in the result to its name in the files, and what is done to each piece.
    """
    header: dict[str, dict[str, object]] = {}
    at = 0
    for name, (source_name, change) in stored.items():
        shape: list[int] = []
        kind = torch.float32
        for piece in map(change, _read(sources, source_name)):
            kind = piece.dtype
            shape = [shape[0] + len(piece), *shape[1:]] if shape else list(piece.shape)
        size = math.prod(shape) * kind.itemsize
        header[name] = {"dtype": _DTYPES[kind], "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for source_name, change in stored.values():
            for piece in map(change, _read(sources, source_name)):
                out.write(piece.contiguous().numpy().tobytes())
    temporary.replace(path)


_DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}
