"""Models of other libraries: kept in a portable format, refused to white-box attacks, exact where they are linear."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.api import Access, Dataset, DataSpec, Model, Threat
from benchmark.config.cell import RunConfig
from benchmark.config.check import check_fit
from benchmark.errors import ConfigError, DataError, Refused
from benchmark.system.weights import load_weights, save_weights
from benchmark.tasks.task import CLASSIFICATION
from benchmark.testing import contract
from benchmark.testing.rule import Inapplicable
from benchmark.testing.worlds import examples

SPEC = DataSpec((12,), 3)
SMALL = {"mebibytes": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "xgboost": {"args": {"n_estimators": 5}, **SMALL},
    "lightgbm": {"args": {"n_estimators": 5, "min_child_samples": 2}, **SMALL},
    "catboost": {"args": {"iterations": 5}, **SMALL},
}


def model(name: str, **settings: Any) -> Any:
    package = "onnxruntime" if name == "onnx" else name
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    try:
        return registry.load("model", name)(**settings)
    except ConfigError as error:
        if "not installed" in str(error):
            pytest.skip(str(error))
        raise


def fitted(made: Model, seed: int = 0) -> torch.nn.Module:
    module = made.build(SPEC)
    made.learn(module, examples(90, SPEC.shape, SPEC.classes)[0], SPEC, seed)
    return module.eval()


@pytest.mark.parametrize("name", SETTINGS)
def test_trees_answer_as_their_library_does_and_after_being_stored(name: str, tmp_path: Path) -> None:
    made = model(name, **SETTINGS[name])
    module, train = fitted(made), examples(90, SPEC.shape, SPEC.classes)[0]
    logits = module(train.x())
    assert logits.shape == (90, 3)
    assert (logits.argmax(1) == train.y).float().mean() > 0.6
    save_weights(module, tmp_path / "weights.safetensors")
    again = made.build(SPEC)
    load_weights(again, tmp_path / "weights.safetensors")
    assert torch.equal(again(train.x()), logits)
    assert torch.equal(copy.deepcopy(module)(train.x()), logits)


def test_xgboost_gives_the_very_margins_of_the_library() -> None:
    made, train = model("xgboost", **SETTINGS["xgboost"]), examples(90, SPEC.shape, SPEC.classes)[0]
    import xgboost

    x = train.x().flatten(1).numpy()
    theirs = xgboost.XGBClassifier(n_estimators=5, random_state=0, n_jobs=1).fit(x, train.y.numpy())
    assert np.array_equal(fitted(made)(train.x()).numpy(), theirs.predict(x, output_margin=True))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_estimator_that_is_offered_can_be_fitted_and_tells_labels_as_scikit_learn_does() -> None:
    from benchmark_plugins.models.sklearn import LINEAR, OTHERS

    for name in (*LINEAR, *OTHERS):
        module = fitted(model("sklearn", estimator=name, mebibytes=2))
        assert torch.isfinite(module(torch.rand(4, 12))).all(), name


def test_logistic_regression_has_the_probabilities_of_scikit_learn_and_a_gradient() -> None:
    from sklearn.linear_model import LogisticRegression

    train = examples(90, SPEC.shape, SPEC.classes)[0]
    x = train.x().flatten(1).numpy()
    theirs = LogisticRegression().fit(x, train.y.numpy()).predict_proba(x)
    module = fitted(model("sklearn"))
    inputs = train.x().requires_grad_(True)
    ours = module(inputs)
    assert np.allclose(ours.softmax(1).detach().numpy(), theirs, atol=1e-4)
    ours[:, 0].sum().backward()
    assert inputs.grad is not None
    assert (inputs.grad != 0).any()


def test_an_attack_that_needs_more_than_the_model_tells_is_refused_with_the_reason() -> None:
    pgd, square = registry.load("attack", "pgd")(), registry.load("attack", "square")()
    forest, digits = model("sklearn", estimator="RandomForestClassifier"), registry.load("dataset", "digits")()
    assert isinstance(digits, Dataset)

    def run(attack: Any, **threat: Any) -> RunConfig:
        return RunConfig(dataset=digits, model=forest, attack=attack, threat=Threat(**threat))

    with pytest.raises(Refused, match=r"attack\.pgd needs gradients, but model\.sklearn gives only scores"):
        check_fit(run(pgd))
    check_fit(run(square))
    check_fit(run(pgd, access=Access.transfer, surrogate="a" * 24))


def without_gradients() -> dict[str, Model]:
    """Every model that has none, as far as its package is installed: trees, forests, endpoints."""
    made: dict[str, Model] = {}
    for name in registry.names("model"):
        settings = {"sklearn": {"estimator": "RandomForestClassifier"}, "http": {"url": "http://localhost:1/"}}.get(
            name
        )
        with contextlib.suppress(ConfigError, TypeError):
            one: Any = registry.load("model", name)(**(settings or {}))
            if not one.access.grants(Access.gradients):
                made[name] = one
    return made


def test_no_attack_by_gradients_meets_a_model_without_them() -> None:
    models, pairs, digits = without_gradients(), 0, registry.load("dataset", "digits")()
    assert isinstance(digits, Dataset)
    assert "boosted_trees" in models
    for name in registry.names("attack"):
        try:
            attack = contract.build("attack", name)
        except Inapplicable:  # a toolkit that is not installed
            continue
        if CLASSIFICATION not in attack.tasks:
            continue
        needs = attack.supports.access
        for model_name, made in models.items():
            threat = Threat(min(attack.supports.norms, key=lambda norm: norm.value), Fraction(1))
            config = RunConfig(dataset=digits, model=made, attack=attack, threat=threat)
            if needs is not Access.gradients or attack.supports.trigger:
                continue
            with pytest.raises(Refused, match=rf"attack\.{name} needs gradients, but model\.{model_name} gives only"):
                check_fit(config)
            pairs += 1
    assert pairs >= 30 * len(models)


def test_a_forest_gives_logarithms_of_probabilities_whose_sum_is_rounded_above_one() -> None:
    made = model("sklearn", estimator="RandomForestClassifier", args={"n_estimators": 10, "max_depth": 4})
    x = examples(90, SPEC.shape, SPEC.classes)[0].x()
    module = fitted(made)
    together = module(x)
    assert torch.equal(together, torch.cat([module(row[None]) for row in x]))
    assert torch.allclose(together.exp().sum(1), torch.ones(90), atol=1e-5)


def test_settings_are_checked_before_anything_is_fitted() -> None:
    with pytest.raises(ConfigError, match=r"model\.estimator is 'Forest'; expected one of .*RandomForestClassifier"):
        model("sklearn", estimator="Forest")
    with pytest.raises(
        ConfigError, match=r"model\.args\.trees is not a parameter of scikit-learn's LogisticRegression"
    ):
        model("sklearn", args={"trees": 3})
    with pytest.raises(ConfigError, match=r"model\.args\.random_state is set by the harness"):
        model("sklearn", args={"random_state": 3})


def test_what_is_too_large_for_its_room_is_refused_with_its_size() -> None:
    from benchmark_plugins.models._portable import Portable

    with pytest.raises(DataError, match=r"a file of 2\.0 MiB, but model\.mebibytes allows 1; increase it"):
        Portable(2**20, 3, str).take(b"0" * 2**21)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LogisticRegression

    train = examples(90, SPEC.shape, SPEC.classes)[0]
    x = train.x().flatten(1).numpy()
    made = LogisticRegression().fit(x, train.y.numpy())
    path = tmp_path / "model.onnx"
    path.write_bytes(skl2onnx.to_onnx(made, x[:1], options={"zipmap": False}).SerializeToString())
    return path


def test_an_onnx_file_answers_and_is_refused_when_a_byte_differs(onnx_file: Path) -> None:
    import hashlib

    good = hashlib.sha256(onnx_file.read_bytes()).hexdigest()
    kinds = type(model("onnx").answers)
    made = model("onnx", path=str(onnx_file), sha256=good, answers=kinds.probabilities)
    module = made.build(SPEC)
    module.load_state_dict(made.pretrained(SPEC))
    assert torch.allclose(module(torch.rand(5, 12)).softmax(1).sum(1), torch.ones(5))
    assert made.access is Access.scores
    raw = bytearray(onnx_file.read_bytes())
    raw[-1] ^= 1
    onnx_file.write_bytes(raw)
    with pytest.raises(DataError, match=r"has sha256 .*, but model\.sha256 is"):
        made.pretrained(SPEC)


def test_an_onnx_file_of_labels_gives_an_attacker_labels_alone(onnx_file: Path) -> None:
    kinds = type(model("onnx").answers)
    made = model("onnx", path=str(onnx_file), answers=kinds.labels, output="label")
    module = made.build(SPEC)
    module.load_state_dict(made.pretrained(SPEC))
    assert set(module(torch.rand(5, 12)).unique().tolist()) == {0.0, 1.0}
    assert made.access is Access.labels
    with pytest.raises(DataError, match=r"model\.output is 'scores', but the file has label, probabilities"):
        model("onnx", path=str(onnx_file), output="scores").pretrained(SPEC)
