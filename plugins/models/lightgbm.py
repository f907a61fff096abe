"""LightGBM. Ke et al., NeurIPS 2017.

Grown by the library itself and kept in its own format (its text form); scores before the softmax, without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from benchmark.api import Access, DataSpec, Examples, Model, hookimpl

from ._portable import MEBIBYTE, Answer, Portable, checked, needs, parameters, table_of

OWNED = ("random_state", "n_jobs", "num_threads", "seed", "num_class", "verbose", "deterministic")


@dataclass(frozen=True)
class LightGBM(Model):
    """Boosted trees over the features of inputs of any shape, grown on one thread.

    args: parameters of lightgbm's LGBMClassifier, checked against its signature.
    mebibytes: room for what it learns; more than there is room for is an error that says how much.
    The recipe in `training` has no part in it.
    """

    access: ClassVar[Access] = Access.scores

    args: dict[str, Any] = field(default_factory=dict)
    mebibytes: int = 8

    def __post_init__(self) -> None:
        needs("lightgbm", "pip install 'adversarial-benchmark[lightgbm]'", "lightgbm")
        from lightgbm import LGBMClassifier

        taken = parameters(LGBMClassifier)
        checked(self.args, taken, OWNED, "lightgbm's LGBMClassifier")

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
        from lightgbm import LGBMClassifier

        x, y = table_of(train, spec.classes, "lightgbm")
        fitted = LGBMClassifier(
            **self.args, random_state=seed, n_jobs=1, verbose=-1, deterministic=True, force_row_wise=True
        ).fit(x, y)
        assert isinstance(module, Portable)
        module.take(fitted.booster_.model_to_string().encode())


def opened(file: bytes) -> Answer:
    """The trees, on one thread."""
    import lightgbm

    trees = lightgbm.Booster(model_str=file.decode())

    def answer(x: np.ndarray) -> np.ndarray:
        return np.asarray(trees.predict(x.reshape(len(x), -1), raw_score=True, num_threads=1))

    return answer


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return LightGBM
