"""CatBoost. Prokhorenkova et al., NeurIPS 2018, arXiv:1706.09516.

Fitted by the library and stored in its format (cbm); scores before the softmax, without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.api import Model, hookimpl

from ._boosting import Boosting
from ._portable import Answer

ITERATIONS = 100


@dataclass(frozen=True, eq=False)  # compared and hashed as the class above is
class CatBoost(Boosting):
    """Boosted trees over the features of inputs of any shape, fitted on one thread.

    args: parameters of catboost's CatBoostClassifier, checked against its signature; `iterations` defaults to 100.
    mebibytes: capacity for the fitted trees; larger ones are refused with their size.
    The recipe in `training` is not used.
    """

    package = "catboost"
    owned = ("random_state", "random_seed", "thread_count", "verbose", "logging_level", "silent", "train_dir")

    @classmethod
    def classifier(cls) -> Any:
        """The library's classifier class."""
        from catboost import CatBoostClassifier

        return CatBoostClassifier

    def grown(self, x: np.ndarray, y: np.ndarray, seed: int) -> bytes:
        """File of the trees, cbm."""
        quiet = {"verbose": False, "allow_writing_files": False}
        made = self.classifier()(**{"iterations": ITERATIONS, **self.args}, random_seed=seed, thread_count=1, **quiet)
        fitted = made.fit(x, y)
        told = fitted.get_metadata()
        for name in ("model_guid", "train_finish_time"):  # the same trees are the same bytes
            told[name] = ""
        file: bytes = fitted._serialize_model()
        return file

    @staticmethod
    def opened(file: bytes) -> Answer:
        """Prediction function of the trees in a file, on one thread."""
        import catboost

        trees = catboost.CatBoost().load_model(blob=file)

        def answer(x: np.ndarray) -> np.ndarray:
            said = trees.predict(x.reshape(len(x), -1), prediction_type="RawFormulaVal", thread_count=1)
            return np.asarray(said)

        return answer


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return CatBoost
