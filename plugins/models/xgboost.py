"""XGBoost. Chen & Guestrin, KDD 2016, arXiv:1603.02754.

Grown by the library itself and kept in its own format (UBJSON); scores before the softmax, without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from benchmark.api import Access, DataSpec, Examples, Model, hookimpl

from ._portable import MEBIBYTE, Answer, Portable, checked, needs, parameters, table_of

OWNED = ("random_state", "n_jobs", "nthread", "seed", "num_class")


@dataclass(frozen=True)
class XGBoost(Model):
    """Boosted trees over the features of inputs of any shape, grown on one thread.

    args: parameters of xgboost's XGBClassifier, checked against its signature.
    mebibytes: room for what it learns; more than there is room for is an error that says how much.
    The recipe in `training` has no part in it.
    """

    access: ClassVar[Access] = Access.scores

    args: dict[str, Any] = field(default_factory=dict)
    mebibytes: int = 8

    def __post_init__(self) -> None:
        needs("xgboost", "pip install 'adversarial-benchmark[xgboost]'", "xgboost")
        from xgboost import XGBClassifier

        taken = {**parameters(XGBClassifier), **dict.fromkeys(XGBClassifier().get_params())}
        checked(self.args, taken, OWNED, "xgboost's XGBClassifier")

    def __hash__(self) -> int:
        return hash((repr(self.args), self.mebibytes))

    def build(self, spec: DataSpec) -> nn.Module:
        """(B, *S) to (B, K); before :meth:`learn`, every score is 0."""
        return Portable(self.mebibytes * MEBIBYTE, spec.classes, opened)

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Grow the trees on one thread.

        Raises:
            DataError: if a class has no training example, or there is no room for the trees.
        """
        from xgboost import XGBClassifier

        x, y = table_of(train, spec.classes, "xgboost")
        fitted = XGBClassifier(**self.args, random_state=seed, n_jobs=1).fit(x, y)
        assert isinstance(module, Portable)
        module.take(bytes(fitted.get_booster().save_raw("ubj")))


def opened(file: bytes) -> Answer:
    """The trees, on one thread."""
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
