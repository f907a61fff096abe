"""CatBoost. Prokhorenkova et al., NeurIPS 2018, arXiv:1706.09516.

Grown by the library itself and kept in its own format (cbm); scores before the softmax, without gradients.
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
    """Boosted trees over the features of inputs of any shape, grown on one thread.

    args: parameters of catboost's CatBoostClassifier, checked against its signature; absent `iterations` are 100.
    mebibytes: room for what it learns; more than there is room for is an error that says how much.
    The recipe in `training` has no part in it.
    """

    package = "catboost"
    owned = ("random_state", "random_seed", "thread_count", "verbose", "logging_level", "silent", "train_dir")

    @classmethod
    def classifier(cls) -> Any:
        """The library's classifier."""
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
        """The trees of a file, on one thread."""
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
