"""Gradient-boosted trees. Friedman, Annals of Statistics 29(5), 2001; over histograms as Ke et al., NeurIPS 2017.

scikit-learn's HistGradientBoostingClassifier fits the trees; they are stored as tensors and evaluated in torch, with
the same scores as in scikit-learn. Their gradient is zero wherever it exists, so gradient attacks are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.api import Access, ConfigError, DataError, DataSpec, Examples, Model, hookimpl

MOST_DEPTH = 10
PROBED = 64
"""Number of training examples on which the tensors' scores are compared with scikit-learn's."""


@dataclass(frozen=True)
class BoostedTrees(Model):
    """Trees over the features of inputs of any shape, one per class and round, each fitted to the remaining loss.

    rounds: number of trees per class (with two classes, one for both). learning_rate: weight of each tree.
    leaves, depth: maxima per tree. leaf_examples: minimum per leaf. l2: penalty on leaf values.
    The recipe in `training` is not used.
    """

    access: ClassVar[Access] = Access.scores

    rounds: int = 100
    learning_rate: float = 0.1
    leaves: int = 31
    depth: int = 6
    leaf_examples: int = 20
    l2: float = 0.0

    def __post_init__(self) -> None:
        if min(self.rounds, self.leaf_examples) < 1:
            raise ConfigError(
                f"model.rounds is {self.rounds} and model.leaf_examples is {self.leaf_examples}; expected at least 1"
            )
        if self.leaves < 2 or not 1 <= self.depth <= MOST_DEPTH:
            raise ConfigError(
                f"model.leaves is {self.leaves} and model.depth is {self.depth}; expected at least 2 leaves, and a "
                f"depth of 1 to {MOST_DEPTH}"
            )
        if not self.learning_rate > 0 or not self.l2 >= 0:
            raise ConfigError(
                f"model.learning_rate is {self.learning_rate} and model.l2 is {self.l2}; expected a positive rate, and "
                "a penalty of at least 0"
            )

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to scores (B, K), which are 0 before :meth:`learn`."""
        return Trees(self.rounds, spec.classes, self.depth)

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Fit the trees on one thread.

        Raises:
            DataError: if a class has no training example, or the scores differ from scikit-learn's.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        y = train.y.numpy()
        missing = sorted(set(range(spec.classes)) - set(y.tolist()))
        if missing:
            raise DataError(f"no training example has the label {missing[0]}; model.boosted_trees needs all classes")
        x = train.x().flatten(1).numpy()
        classifier = HistGradientBoostingClassifier(
            max_iter=self.rounds,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.leaves,
            max_depth=self.depth,
            min_samples_leaf=self.leaf_examples,
            l2_regularization=self.l2,
            early_stopping=False,
            random_state=seed,
        )
        with threadpool_limits(1):
            classifier.fit(x, y)
            said = classifier.decision_function(x[:PROBED])
        assert isinstance(module, Trees)
        module.take(classifier._predictors, classifier._baseline_prediction)
        here = module.raw(torch.from_numpy(x[:PROBED])).numpy()
        if not np.array_equal(here if module.per_round > 1 else here[:, 0], said):
            raise DataError(
                "the scores of the trees differ from scikit-learn's: this version of scikit-learn stores trees "
                "differently"
            )


class Trees(nn.Module):
    """Sums of complete binary trees: a node tests whether a feature is at most its threshold; a leaf has a value.

    Nodes are in level order, so that the children of node n are 2 n + 1 if the test holds, and 2 n + 2 if not.
    feature: (T, 2**depth - 1) int64. threshold: (T, 2**depth - 1) float32. value: (T, 2**depth) float64. T = rounds *
    per_round. start: (per_round,) float64, initial values of the sums. per_round: trees per round, one per class, or a
    single one for two classes, with the score of the second. A shorter branch is extended to equal leaves.
    """

    feature: Tensor
    threshold: Tensor
    value: Tensor
    start: Tensor

    def __init__(self, rounds: int, classes: int, depth: int) -> None:
        super().__init__()
        self.per_round, self.depth = classes if classes > 2 else 1, depth
        trees = rounds * self.per_round
        self.register_buffer("feature", torch.zeros(trees, 2**depth - 1, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(trees, 2**depth - 1))
        self.register_buffer("value", torch.zeros(trees, 2**depth, dtype=torch.float64))
        self.register_buffer("start", torch.zeros(self.per_round, dtype=torch.float64))

    def take(self, rounds: Sequence[Sequence[Any]], start: np.ndarray) -> None:
        """Copy scikit-learn's trees, one per class in each round, and the initial values of their sums."""
        self.start.copy_(torch.from_numpy(np.asarray(start, dtype=np.float64).reshape(-1)))
        for tree, predictor in enumerate(one for trees in rounds for one in trees):
            at = np.zeros(1, dtype=np.int64)  # which of scikit-learn's nodes stand on this level
            for level in range(self.depth + 1):
                nodes, here = predictor.nodes[at], slice(2**level - 1, 2 ** (level + 1) - 1)
                if level == self.depth:
                    self.value[tree] = torch.from_numpy(nodes["value"].copy())
                    break
                self.feature[tree, here] = torch.from_numpy(nodes["feature_idx"].copy())
                self.threshold[tree, here] = torch.from_numpy(_rounded_down(nodes["num_threshold"]))
                leaf, down = nodes["is_leaf"] == 1, np.stack([nodes["left"], nodes["right"]], 1).astype(np.int64)
                at = np.where(leaf[:, None], at[:, None], down).reshape(-1)

    def raw(self, x: Tensor) -> Tensor:
        """Sums for `x` (B, *S) float32, added in the order of the rounds, (B, per_round) float64."""
        flat = x.flatten(1)
        tree = torch.arange(len(self.feature), device=x.device)
        nodes, leaves = tree * self.feature.shape[1], tree * self.value.shape[1]
        place = torch.zeros(len(x), len(tree), dtype=torch.int64, device=x.device)  # on its level
        for level in range(self.depth):
            at = place + (nodes + (2**level - 1))
            place = 2 * place + (flat.gather(1, self.feature.take(at)) > self.threshold.take(at))
        values = self.value.take(place + leaves).reshape(len(x), -1, self.per_round)
        total = self.start.expand(len(x), -1)
        for step in range(values.shape[1]):
            total = total + values[:, step]
        return total

    def forward(self, x: Tensor) -> Tensor:
        """Map to sums (B, K) float32; with two classes, 0 and the sum, whose softmax is the logistic function."""
        total = self.raw(x).float()
        return total if self.per_round > 1 else torch.cat([torch.zeros_like(total), total], 1)


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """Round to single precision such that float32 features compare with the result as with the threshold."""
    single = thresholds.astype(np.float32)
    return np.where(single > thresholds, np.nextafter(single, np.float32(-np.inf)), single)


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return BoostedTrees
