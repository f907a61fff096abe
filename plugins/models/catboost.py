"""CatBoost. Prokhorenkova et al., NeurIPS 2018, arXiv:1706.09516.

Grown by the library itself and kept in its own format (cbm); scores before the softmax, without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from benchmark.api import Access, DataSpec, Examples, Model, hookimpl

from ._portable import MEBIBYTE, Answer, Portable, checked, needs, parameters, table_of

ITERATIONS = 100
OWNED = ("random_state", "random_seed", "thread_count", "verbose", "logging_level", "silent", "train_dir")


@dataclass(frozen=True)
class CatBoost(Model):
    """Boosted trees over the features of inputs of any shape, grown on one thread.

    args: parameters of catboost's CatBoostClassifier, checked against its signature; absent `iterations` are 100.
    mebibytes: room for what it learns; more than there is room for is an error that says how much.
    The recipe in `training` has no part in it.
    """

    access: ClassVar[Access] = Access.scores

    args: dict[str, Any] = field(default_factory=dict)
    mebibytes: int = 8

    def __post_init__(self) -> None:
        needs("catboost", "pip install 'adversarial-benchmark[catboost]'", "catboost")
        from catboost import CatBoostClassifier

        taken = parameters(CatBoostClassifier)
        checked(self.args, taken, OWNED, "catboost's CatBoostClassifier")

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
        from catboost import CatBoostClassifier

        x, y = table_of(train, spec.classes, "catboost")
        fitted = CatBoostClassifier(
            **{"iterations": ITERATIONS, **self.args},
            random_seed=seed,
            thread_count=1,
            verbose=False,
            allow_writing_files=False,
        ).fit(x, y)
        assert isinstance(module, Portable)
        module.take(fitted._serialize_model())


def opened(file: bytes) -> Answer:
    """The trees, on one thread."""
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
