"""XGBoost. Chen & Guestrin, KDD 2016, arXiv:1603.02754.

Fitted by the library and stored in its format (UBJSON); scores before the softmax, without gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.api import Model, hookimpl

from ._boosting import Boosting
from ._portable import Answer


@dataclass(frozen=True, eq=False)  # compared and hashed as the class above is
class XGBoost(Boosting):
    """Boosted trees over the features of inputs of any shape, fitted on one thread.

    args: parameters of xgboost's XGBClassifier, checked against its signature.
    mebibytes: capacity for the fitted trees; larger ones are refused with their size.
    The recipe in `training` is not used.
    """

    package = "xgboost"
    owned = ("random_state", "n_jobs", "nthread", "seed", "num_class")

    @classmethod
    def classifier(cls) -> Any:
        """The library's classifier class."""
        from xgboost import XGBClassifier

        return XGBClassifier

    @classmethod
    def taken(cls) -> Mapping[str, Any]:
        """Parameters that the classifier accepts, by name, including variadic ones."""
        return {**super().taken(), **dict.fromkeys(cls.classifier()().get_params())}

    def grown(self, x: np.ndarray, y: np.ndarray, seed: int) -> bytes:
        """File of the trees, UBJSON."""
        fitted = self.classifier()(**self.args, random_state=seed, n_jobs=1).fit(x, y)
        return bytes(fitted.get_booster().save_raw("ubj"))

    @staticmethod
    def opened(file: bytes) -> Answer:
        """Prediction function of the trees in a file, on one thread."""
        import xgboost

        trees = xgboost.Booster({"nthread": 1})
        trees.load_model(bytearray(file))

        def answer(x: np.ndarray) -> np.ndarray:
            said: np.ndarray = trees.predict(xgboost.DMatrix(x.reshape(len(x), -1), nthread=1), output_margin=True)
            return said

        return answer


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return XGBoost
