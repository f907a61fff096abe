"""LightGBM. Ke et al., NeurIPS 2017.

Fitted by the library and stored in its text format; scores before the softmax, without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.api import Model, hookimpl

from ._boosting import Boosting
from ._portable import Answer


@dataclass(frozen=True, eq=False)  # compared and hashed as the class above is
class LightGBM(Boosting):
    """Boosted trees over the features of inputs of any shape, fitted on one thread.

    args: parameters of lightgbm's LGBMClassifier, checked against its signature.
    mebibytes: capacity for the fitted trees; larger ones are refused with their size.
    The recipe in `training` is not used.
    """

    package = "lightgbm"
    owned = ("random_state", "n_jobs", "num_threads", "seed", "num_class", "verbose", "deterministic")

    @classmethod
    def classifier(cls) -> Any:
        """The library's classifier class."""
        from lightgbm import LGBMClassifier

        return LGBMClassifier

    def grown(self, x: np.ndarray, y: np.ndarray, seed: int) -> bytes:
        """File of the trees, text."""
        fixed = {"random_state": seed, "n_jobs": 1, "verbose": -1, "deterministic": True, "force_row_wise": True}
        text: str = self.classifier()(**self.args, **fixed).fit(x, y).booster_.model_to_string()
        return text.encode()

    @staticmethod
    def opened(file: bytes) -> Answer:
        """Prediction function of the trees in a file, on one thread."""
        import lightgbm

        trees = lightgbm.Booster(model_str=file.decode())

        def answer(x: np.ndarray) -> np.ndarray:
            return np.asarray(trees.predict(x.reshape(len(x), -1), raw_score=True, num_threads=1))

        return answer


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return LightGBM
