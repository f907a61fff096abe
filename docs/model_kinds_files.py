"""Files and the endpoint of suite=model_kinds.

`KERAS_BACKEND=torch python docs/model_kinds_files.py` writes a Keras network and an ONNX network per dataset, as
data/model_kinds/DATASET.keras and .onnx. With `--serve` it answers at http://127.0.0.1:8765/DATASET until it is
interrupted. It needs the extras keras and sklearn, and data/spambase.data.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from omegaconf import OmegaConf

from benchmark import registry
from benchmark.api import Dataset, Splits

ROOT, DATA, PORT = Path(__file__).parents[1], Path("data"), 8765
UNITS, EPOCHS, SEED = 32, 40, 0


def splits(name: str) -> Splits:
    """The dataset as the suite has it."""
    settings: dict[str, Any] = {}
    file = ROOT / "conf" / "dataset" / f"{name}.yaml"
    if file.is_file():
        read: Any = OmegaConf.to_container(OmegaConf.load(file))
        name, settings = read.pop("defaults")[0], read
    dataset = registry.load("dataset", name)(**settings)
    assert isinstance(dataset, Dataset)
    return dataset.load(DATA, offline=True)


def write(name: str) -> None:
    """Train both networks of one dataset, and write them."""
    import keras
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    found = splits(name)
    x, y = found.train.x().numpy(), found.train.y.numpy()
    channels_last = np.moveaxis(x, 1, -1) if found.spec.image else x
    keras.utils.set_random_seed(SEED)
    net = keras.Sequential([
        keras.Input(channels_last.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(UNITS, activation="relu"),
        keras.layers.Dense(found.spec.classes),
    ])  # fmt: skip
    net.compile(keras.optimizers.Adam(0.005), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(channels_last, y, batch_size=64, epochs=EPOCHS, verbose=0)
    folder = DATA / "model_kinds"
    folder.mkdir(parents=True, exist_ok=True)
    net.save(folder / f"{name}.keras")
    flat = x.reshape(len(x), -1)
    mlp = MLPClassifier((UNITS,), max_iter=300, early_stopping=True, random_state=SEED).fit(flat, y)
    made = to_onnx(mlp, flat[:1], options={"zipmap": False})
    (folder / f"{name}.onnx").write_bytes(made.SerializeToString())


def served(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Scores (B, K) of a support vector machine for inputs (B, *S)."""
    from sklearn.svm import SVC

    train = splits(name).train
    machine = SVC(random_state=SEED).fit(train.x().flatten(1).numpy(), train.y.numpy())

    def answer(x: np.ndarray) -> np.ndarray:
        scores: np.ndarray = machine.decision_function(x.reshape(len(x), -1))
        return scores if scores.ndim == 2 else np.stack([-scores, scores], 1) / 2

    return answer


class Handler(BaseHTTPRequestHandler):
    """One request."""

    answers: ClassVar[dict[str, Callable[[np.ndarray], np.ndarray]]] = {}

    def do_POST(self) -> None:
        """Reply with one row of scores per input."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scores = self.answers[self.path.strip("/")](np.asarray(body["inputs"], np.float32))
        reply = json.dumps({"outputs": scores.tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main(arguments: list[str]) -> int:
    """Write the files, or serve the classifiers."""
    names = "digits", "breast_cancer", "spambase"
    if "--serve" not in arguments:
        for name in names:
            write(name)
        return 0
    Handler.answers.update({name: served(name) for name in names})
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
