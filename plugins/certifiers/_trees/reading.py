"""Tree ensembles from deployed systems: tensors, and the files of XGBoost, LightGBM and ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Refused, SampleRandom

from .leaves import Leaves, Node

if TYPE_CHECKING:
    from benchmark.api import System

    from ...models.boosted_trees import Trees

__all__ = ["read"]

KINDS = "model.boosted_trees, xgboost, lightgbm, sklearn (trees and forests) and onnx (tree ensembles)"
PROBES, ALIKE = 64, 1e-4
"""Random inputs at which the leaves are compared with the system, and the largest difference of a score."""

Forest = list[list[Node]]
Link = Callable[[np.ndarray], np.ndarray]
"""From sums of leaves (B, K) to what the system's scores are compared with."""


def read(system: System, x: Tensor) -> tuple[Leaves, float]:
    """Leaves of the deployed ensemble, and the largest difference from the system's scores at random inputs and `x`.

    Raises:
        Refused: if the system is no such ensemble alone, if its answers differ from its leaves, or if it is too large.
    """
    from ...models._portable import Portable
    from ...models.boosted_trees import Trees

    module, features, classes = system.protected, x[0].numel(), system.spec.classes
    if system.detectors or not isinstance(module, Trees | Portable):
        raise _no_ensemble(type(module).__name__)
    logarithmic, start = False, None
    link: Link = _same
    if isinstance(module, Trees):
        trees, start = _of_tensors(module, classes), _columns(module.start.cpu().numpy(), classes)
    else:
        trees, logarithmic, link, start = _of_file(module, classes)
    leaves = Leaves.of(trees, features, np.zeros(classes) if start is None else start)
    draw = torch.Generator().manual_seed(0)
    points = torch.cat([torch.rand(PROBES, *x.shape[1:], generator=draw), x.cpu()]).to(x.device)
    said = system.logits(points, SampleRandom(0, torch.arange(len(points), device=x.device))).double().cpu().numpy()
    found = np.exp(said) if logarithmic else said
    total = leaves.total(points.flatten(1).cpu().numpy())
    if start is None:
        leaves = replace(leaves, start=(found - total)[0])
        total = total + leaves.start
    differs = float(np.abs(found - link(total)).max())
    if not differs <= ALIKE * (1.0 + float(np.abs(total).max())):
        raise Refused(
            "certifier.tree: the system's scores are not the sums of its leaves; choose one without a defense"
        )
    return leaves, differs


def _no_ensemble(what: str) -> Refused:
    return Refused(
        f"certifier.tree reads the leaves of {KINDS}, but the deployed module is {what}; choose such a model without a "
        "defense at inference, or another certifier"
    )


def _same(total: np.ndarray) -> np.ndarray:
    return total


def _softmax(total: np.ndarray) -> np.ndarray:
    raised = np.exp(total - total.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def _columns(value: np.ndarray, classes: int) -> np.ndarray:
    """Scores (K,) from one per class, or from that of the second of two classes, (1,)."""
    return np.asarray([0.0, value[0]] if len(value) == 1 and classes == 2 else value, np.float64)


def _one_hot(value: float, place: int, classes: int) -> np.ndarray:
    """Score `value` of one class, that of the second where two classes share one score."""
    found = np.zeros(classes)
    found[1 if classes == 2 else place % classes] = value
    return found


def _of_tensors(module: Trees, classes: int) -> Forest:
    """Complete trees without the subtrees whose leaves are the same."""
    forest = []
    for place in range(len(module.value)):
        feature, threshold = module.feature[place].tolist(), module.threshold[place].tolist()
        inner, values = len(feature), module.value[place].tolist()
        nodes = [Node(None, feature[n], threshold[n], 2 * n + 1, 2 * n + 2) for n in range(inner)]
        nodes += [Node(_one_hot(value, place, classes)) for value in values]
        for n in reversed(range(inner)):
            left, right = nodes[2 * n + 1].value, nodes[2 * n + 2].value
            if left is not None and right is not None and np.array_equal(left, right):
                nodes[n] = Node(left)
                nodes[2 * n + 1] = nodes[2 * n + 2] = Node(None)
        forest.append(nodes)
    return forest


def _of_file(module: Any, classes: int) -> tuple[Forest, bool, Link, np.ndarray | None]:
    """Trees of a file; whether the system's scores are logarithms of probabilities; the link; the initial scores.

    Initial scores of None are those that make the first comparison exact.
    """
    from ...models.lightgbm import LightGBM
    from ...models.xgboost import XGBoost

    file = module.content[: int(module.length)].cpu().numpy().tobytes()
    if module.opened is XGBoost.opened:
        return _of_xgboost(file, classes), False, _same, None
    if module.opened is LightGBM.opened:
        return _of_lightgbm(file, classes), False, _same, None
    return _of_onnx(file, classes)


def _of_xgboost(file: bytes, classes: int) -> Forest:
    """XGBoost's test is `x < threshold`; inputs are numbers, so the direction of missing values does not matter."""
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(file))
    model = json.loads(booster.save_raw("json").decode())["learner"]["gradient_booster"]["model"]
    if "trees" not in model or any(any(tree["split_type"]) for tree in model["trees"]):
        raise _no_ensemble("XGBoost without numerical trees")
    forest = []
    for tree, place in zip(model["trees"], model["tree_info"], strict=True):
        below = np.nextafter(np.asarray(tree["split_conditions"], np.float32), np.float32(-np.inf)).tolist()
        split, left, right = tree["split_indices"], tree["left_children"], tree["right_children"]
        forest.append([
            Node(_one_hot(tree["split_conditions"][n], place, classes))
            if left[n] < 0 else Node(None, split[n], below[n], left[n], right[n])
            for n in range(len(left))
        ])  # fmt: skip
    return forest


def _of_lightgbm(file: bytes, classes: int) -> Forest:
    import lightgbm

    forest: Forest = []
    for place, tree in enumerate(lightgbm.Booster(model_str=file.decode()).dump_model()["tree_info"]):
        nodes: list[Node] = []
        _walk(tree["tree_structure"], place, classes, nodes)
        forest.append(nodes)
    return forest


def _walk(told: dict[str, Any], place: int, classes: int, nodes: list[Node]) -> int:
    """Add a subtree of LightGBM's dump to `nodes`, and return its place."""
    at = len(nodes)
    if "leaf_value" in told:
        nodes.append(Node(_one_hot(told["leaf_value"], place, classes)))
        return at
    if told["decision_type"] != "<=":
        raise _no_ensemble("LightGBM with categories")
    nodes.append(Node(None))
    left = _walk(told["left_child"], place, classes, nodes)
    right = _walk(told["right_child"], place, classes, nodes)
    nodes[at] = Node(None, told["split_feature"], _rounded_down(told["threshold"]), left, right)
    return at


def _rounded_down(threshold: float) -> float:
    """Largest float32 at most `threshold`."""
    single = np.float32(threshold)
    return float(np.nextafter(single, np.float32(-np.inf)) if float(single) > threshold else single)


def _of_onnx(file: bytes, classes: int) -> tuple[Forest, bool, Link, np.ndarray | None]:
    """A TreeEnsembleClassifier; with one score for two classes, it is that of the second."""
    from ...models._portable import needs

    needs("onnx", "pip install 'adversarial-benchmark[onnx]'", "sklearn under certifier.tree")
    import onnx

    operators = {node.op_type: node for node in onnx.load_from_string(file).graph.node}
    if "TreeEnsembleClassifier" not in operators:
        raise _no_ensemble(f"an ONNX file of {', '.join(sorted(operators))}")
    told = {one.name: onnx.helper.get_attribute_value(one) for one in operators["TreeEnsembleClassifier"].attribute}
    if set(told["nodes_modes"]) - {b"BRANCH_LEQ", b"LEAF"}:
        raise _no_ensemble("an ONNX file whose trees have other tests than <=")
    single, link = len(set(told["class_ids"])) == 1 and classes == 2, told.get("post_transform", b"NONE")
    base = np.asarray(told.get("base_values", [0.0] * (1 if single else classes)), np.float64)
    forest = _onnx_trees(told, classes, single)
    if single and link == b"NONE":  # probabilities p and 1 - p
        return _mirrored(forest), True, _same, np.array([1.0 - base[0], base[0]])
    return forest, True, _same if link == b"NONE" else _softmax, _columns(base, classes)


def _onnx_trees(told: dict[str, Any], classes: int, single: bool) -> Forest:
    values: dict[tuple[int, int], np.ndarray] = {}
    entries = zip(told["class_treeids"], told["class_nodeids"], told["class_ids"], told["class_weights"], strict=True)
    for tree, node, place, weight in entries:
        values.setdefault((tree, node), np.zeros(classes))[1 if single else place] += weight
    forest: dict[int, list[Node]] = {}
    columns = ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
    for tree, node, mode, *test in zip(*(told[f"nodes_{name}"] for name in columns), strict=True):
        leaf = mode == b"LEAF"
        nodes = forest.setdefault(tree, [])
        if node != len(nodes):
            raise _no_ensemble("an ONNX file whose nodes are not in order")
        nodes.append(Node(values.get((tree, node), np.zeros(classes))) if leaf else Node(None, *test))
    return list(forest.values())


def _mirrored(forest: Sequence[Sequence[Node]]) -> Forest:
    """The trees with the first score as the second one's negative."""
    return [
        [n if n.value is None else n._replace(value=np.array([-n.value[1], n.value[1]])) for n in tree]
        for tree in forest
    ]
