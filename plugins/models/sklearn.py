"""Classifiers of scikit-learn by name. Pedregosa et al., JMLR 12, 2011.

Linear ones are stored as a weight matrix, so that they have gradients and exact distances. Others are stored as ONNX
and evaluated by ONNX Runtime: nothing is pickled, and scikit-learn is not needed for evaluation.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.api import Access, ConfigError, DataError, DataSpec, Examples, Model, hookimpl

from ._portable import MEBIBYTE, Answer, Portable, checked, logarithms, needs, parameters, table_of

LINEAR = {
    "LogisticRegression": "linear_model", "LinearSVC": "svm", "RidgeClassifier": "linear_model",
    "Perceptron": "linear_model", "SGDClassifier": "linear_model",
    "LinearDiscriminantAnalysis": "discriminant_analysis",
}  # fmt: skip
OTHERS = {
    "SVC": "svm", "KNeighborsClassifier": "neighbors", "DecisionTreeClassifier": "tree",
    "RandomForestClassifier": "ensemble", "ExtraTreesClassifier": "ensemble",
    "GradientBoostingClassifier": "ensemble", "GaussianNB": "naive_bayes", "MLPClassifier": "neural_network",
}  # fmt: skip
"""Estimators stored as ONNX. HistGradientBoostingClassifier is `model=boosted_trees`."""

ANSWERS, PROBABILITIES = "answers", "probabilities"
"""Key of the file's metadata for what its last output is, and its value for probabilities."""

PROBED, ALIKE = 256, 0.99
"""Training examples on which the stored model is compared with the fitted one, and the share that must agree."""


@dataclass(frozen=True)
class SKLearn(Model):
    """A classifier over the features of inputs of any shape, fitted on one thread.

    estimator: its name in scikit-learn. args: its parameters there, checked against its signature.
    mebibytes: capacity for the fitted model; a larger one is refused with its size.
    The recipe in `training` is not used.
    """

    estimator: str = "LogisticRegression"
    args: dict[str, Any] = field(default_factory=dict)
    mebibytes: int = 8

    def __post_init__(self) -> None:
        known = {**LINEAR, **OTHERS}
        if self.estimator not in known:
            raise ConfigError(f"model.estimator is {self.estimator!r}; expected one of {', '.join(sorted(known))}")
        checked(self.args, parameters(self._class()), ("random_state", "n_jobs"), f"scikit-learn's {self.estimator}")
        if self.estimator in OTHERS:
            for package in ("skl2onnx", "onnxruntime"):
                needs(package, "pip install 'adversarial-benchmark[sklearn]'", f"sklearn with {self.estimator}")
        object.__setattr__(self, "access", Access.gradients if self.estimator in LINEAR else Access.scores)

    def __hash__(self) -> int:
        return hash((self.estimator, repr(self.args), self.mebibytes))

    def _class(self) -> Any:
        return getattr(importlib.import_module(f"sklearn.{(LINEAR | OTHERS)[self.estimator]}"), self.estimator)

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to scores (B, K), which are 0 before :meth:`learn`."""
        if self.estimator not in LINEAR:
            return Portable(self.mebibytes * MEBIBYTE, spec.classes, opened)
        layer = nn.Linear(int(np.prod(spec.shape)), spec.classes)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return nn.Sequential(nn.Flatten(), layer)

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Fit on one thread.

        Raises:
            DataError: if a class has no training example, or the stored model differs from the fitted one.
        """
        from threadpoolctl import threadpool_limits

        x, y = table_of(train, spec.classes, "sklearn")
        made = self._class()
        seeded = {"random_state": seed} if "random_state" in parameters(made) else {}
        with threadpool_limits(1):
            fitted = made(**self.args, **seeded).fit(x, y)
            said = fitted.predict(x[:PROBED])
        if isinstance(module, Portable):
            module.take(_as_onnx(fitted, x))
        else:
            _take(module[1], fitted)  # type: ignore[index]
        here = module(torch.from_numpy(x[:PROBED])).detach().argmax(1).numpy()
        if (here == said).mean() < ALIKE:
            raise DataError(
                f"the stored form of {self.estimator} classifies {(here != said).sum()} of {len(said)} training "
                "examples differently from scikit-learn; choose other model.args, or another estimator"
            )


def _take(layer: nn.Linear, fitted: Any) -> None:
    """Copy the weights; for two classes scikit-learn has only the score of the second."""
    weight, bias = torch.from_numpy(np.asarray(fitted.coef_)), torch.from_numpy(np.asarray(fitted.intercept_))
    rows: list[Tensor] = [weight, bias.reshape(-1)]
    if len(weight) == 1:
        rows = [torch.cat([-one / 2, one / 2]) for one in rows]
    with torch.no_grad():
        layer.weight.copy_(rows[0])
        layer.bias.copy_(rows[1].expand(layer.bias.shape))


def _as_onnx(fitted: Any, x: np.ndarray) -> bytes:
    from skl2onnx import to_onnx

    options: dict[str, Any] = {"zipmap": False}
    if type(fitted).__name__ == "SVC":
        options["raw_scores"] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it reads attributes that scikit-learn will drop
        made = to_onnx(fitted, x[:1], options={id(fitted): options})
    made.metadata_props.add(key=ANSWERS, value="decision values" if "raw_scores" in options else PROBABILITIES)
    converted: bytes = made.SerializeToString()
    return converted


def opened(file: bytes) -> Answer:
    """Prediction function of ONNX Runtime on one thread; scores are logarithms if the file gives probabilities."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    name, proper = session.get_inputs()[0].name, session.get_modelmeta().custom_metadata_map.get(ANSWERS)

    def answer(x: np.ndarray) -> np.ndarray:
        said = np.asarray(session.run(None, {name: x.reshape(len(x), -1)})[-1])
        return logarithms(said) if proper == PROBABILITIES else said

    return answer


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return SKLearn
