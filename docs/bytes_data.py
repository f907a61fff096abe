"""Files as data for the example of worked-examples.md: `python docs/bytes_data.py FOLDER...`.

Reads files below the folders, appends SLACK zero bytes to each, and writes bytes.npz (the features of magika's model of
file types, and classes), slack.npy (a mask: only the appended bytes may change) and magika.onnx (the model, with inputs
in [0, 1]). Needs the packages magika and onnx.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HALF, SLACK, EACH = 1024, 256, 25
"""Bytes of a file's beginning and of its end that the model reads; bytes appended; most files of a class."""
KINDS = {
    ".py": "python",
    ".so": "elf",
    ".png": "png",
    ".gz": "gzip",
    ".html": "html",
    ".json": "json",
    ".c": "c",
    ".h": "c",
}


def features(raw: bytes) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """First and last bytes (2048,) as magika takes them; None for a file that is too short for both."""
    begin = raw.lstrip()[:HALF]
    return np.frombuffer(begin + raw[-HALF:], np.uint8) if len(begin) == HALF and len(raw) >= 2 * HALF else None


def written(package: Path, folders: list[Path]) -> int:
    """Write the three files into the working folder; returns the number of examples."""
    home = package / "models" / "standard_v3_3"
    names = json.loads((home / "config.min.json").read_text(encoding="utf-8"))["target_labels_space"]
    found: dict[str, list[Any]] = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in KINDS):
        own = found.setdefault(KINDS[path.suffix], [])
        x = features(path.read_bytes() + bytes(SLACK)) if len(own) < EACH and path.is_file() else None
        own += [] if x is None else [x]
    x = np.stack([one for own in found.values() for one in own])
    y = np.concatenate([np.full(len(own), names.index(kind)) for kind, own in found.items()])
    order = np.random.default_rng(0).permutation(len(x))
    np.savez("bytes.npz", x_test=x[order], y_test=y[order])
    free = np.zeros(2 * HALF, bool)
    free[-SLACK:-1] = True  # the last byte stays 0: the model is shown no white space at the end of a file
    np.save("slack.npy", free)
    _between_0_and_1(home / "model.onnx", Path("magika.onnx"))
    return len(x)


def _between_0_and_1(source: Path, target: Path) -> None:
    """Write a copy of a model that takes bytes as integers, with inputs byte / 255."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(source))
    graph, name = model.graph, model.graph.input[0].name
    first = [
        helper.make_node("Mul", ["x", "levels"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["whole"]),
        helper.make_node("Cast", ["whole"], [name], to=TensorProto.INT32),
    ]
    graph.initializer.append(helper.make_tensor("levels", TensorProto.FLOAT, [], [255.0]))
    nodes = [*first, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2 * HALF]))
    onnx.save(model, str(target))


def main(arguments: list[str]) -> int:
    """Write the files for the folders that are named; returns the exit code."""
    found = importlib.util.find_spec("magika")
    if found is None or found.origin is None:
        sys.exit("magika is not installed: pip install magika")
    written(Path(found.origin).parent, [Path(folder) for folder in arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
