"""Adversarial Robustness Toolbox: any of its evasion attacks by name. Nicolae et al., 2018, arXiv:1807.01069."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.api import Access, Attack, DataSpec, Norm, Refused, Threat, hookimpl

from .._toolkit import imported
from ._toolkits.bridge import Bridge, Method, methods_of
from ._toolkits.facade import Facade

ORDERS: dict[Norm, float | int] = {Norm.linf: np.inf, Norm.l2: 2, Norm.l1: 1}
METHODS = {
    **methods_of(
        "FastGradientMethod BasicIterativeMethod ProjectedGradientDescent ProjectedGradientDescentNumpy \
        ProjectedGradientDescentPyTorch MomentumIterativeMethod",
        *ORDERS,
    ),
    **methods_of(
        "AutoProjectedGradientDescent AutoConjugateGradient RescalingAutoConjugateGradient AutoAttack", *ORDERS
    ),
    **methods_of("DeepFool NewtonFool", Norm.l2, minimal=True, targeted=False),
    **methods_of("VirtualAdversarialMethod", Norm.l2, targeted=False),
    **methods_of("CarliniL2Method", Norm.l2, minimal=True),
    **methods_of("CarliniLInfMethod", Norm.linf, minimal=True),
    **methods_of("CarliniL0Method SaliencyMapMethod", Norm.l0, minimal=True),
    **methods_of("ElasticNet", Norm.l1, minimal=True),
    **methods_of("SquareAttack", Norm.linf, Norm.l2, access=Access.scores, targeted=False),
    **methods_of("ZooAttack", Norm.l2, access=Access.scores, minimal=True),
    **methods_of("SimBA", Norm.linf, Norm.l2, access=Access.scores, minimal=True),
    **methods_of("PixelAttack", Norm.l0, access=Access.scores, minimal=True),
    **methods_of("ThresholdAttack", Norm.linf, access=Access.scores, minimal=True),
    **methods_of("HopSkipJump", Norm.linf, Norm.l2, access=Access.labels, minimal=True),
    **methods_of("BoundaryAttack", Norm.l2, access=Access.labels, minimal=True),
    **methods_of("SignOPTAttack", Norm.l2, access=Access.labels, minimal=True, targeted=False),
}

_PATCHES = (
    "makes a patch or a universal perturbation from many examples; attack=universal_patch, patch, universal and uap"
)
_SUBJECT = "is about speech, video, objects or malware, and not about classifiers of one array"
_NO_NORM = "answers to no norm of a threat"
LEFT_OUT = {
    **dict.fromkeys(
        [
            "AdversarialPatch",
            "AdversarialPatchNumpy",
            "AdversarialPatchPyTorch",
            "AdversarialPatchTensorFlowV2",
            "GRAPHITEBlackbox",
            "GRAPHITEWhiteboxPyTorch",
            "UniversalPerturbation",
            "TargetedUniversalPerturbation",
        ],
        _PATCHES,
    ),
    **dict.fromkeys(
        [
            "AdversarialTexturePyTorch",
            "CarliniWagnerASR",
            "DPatch",
            "RobustDPatch",
            "ImperceptibleASR",
            "ImperceptibleASRPyTorch",
            "FrameSaliencyAttack",
            "MalwareGDTensorFlow",
            "OverTheAirFlickeringPyTorch",
            "OverloadPyTorch",
            "SNAL",
        ],
        _SUBJECT,
    ),
    **dict.fromkeys(
        ["CompositeAdversarialAttackPyTorch", "LaserAttack", "ShadowAttack", "SpatialTransformation", "Wasserstein"],
        _NO_NORM,
    ),
    **dict.fromkeys(
        ["FeatureAdversariesNumpy", "FeatureAdversariesPyTorch", "FeatureAdversariesTensorFlowV2"],
        "imitates features inside the model, which a target does not show",
    ),
    "ProjectedGradientDescentTensorFlowV2": "is for TensorFlow; the PyTorch form is offered",
    "DecisionTreeAttack": "reads scikit-learn's trees, which a target does not show",
    "HighConfidenceLowUncertainty": "reads a Gaussian process, which a target does not show",
    "GeoDA": "calls np.mat, which NumPy 2 has no more; attack=geoda does that here",
    "LowProFool": "must be fitted to a table of data first",
}
"""Attacks of ART that are not offered, with the reason."""

IMAGES = frozenset({"SquareAttack", "SimBA", "PixelAttack", "ThresholdAttack"})
"""Methods for images (C, H, W) only."""

BY_PROBABILITIES = frozenset({"SimBA", "VirtualAdversarialMethod"})
"""Methods that need a model with probabilities as output."""


@dataclass(frozen=True)
class ART(Bridge):
    """An evasion attack of ART, by the name of its class.

    method, args, project, version: see `attack=foolbox`, whose settings all bridges share.
    """

    package: ClassVar[str] = "art"
    distribution: ClassVar[str] = "adversarial-robustness-toolbox"
    install: ClassVar[str] = "pip install 'adversarial-benchmark[art]'"
    known: ClassVar[dict[str, Method]] = METHODS
    owned: ClassVar[frozenset[str]] = frozenset(
        {"self", "classifier", "estimator", "norm", "eps", "targeted", "verbose", "summary_writer", "batch_size"}
    )

    needs: ClassVar[dict[str, str]] = {"AutoAttack": "multiprocess"}

    method: str = "FastGradientMethod"

    @classmethod
    def has(cls, name: str) -> bool:
        """True if art.attacks.evasion has an attack of that name."""
        return hasattr(imported("art.attacks.evasion"), name)

    @classmethod
    def signature_of(cls, name: str) -> Callable[..., Any]:
        """Class of the attack."""
        found: Callable[..., Any] = getattr(imported("art.attacks.evasion"), name)
        return found

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images for methods that need images."""
        super().check(spec, threat)
        if self.method in IMAGES and len(spec.shape) != 3:
            raise Refused(
                f"ART's {self.method} needs images of shape (C, H, W), but an example has the shape {spec.shape}"
            )

    def run(self, facade: Facade, x: Tensor, y: Tensor, *, threat: Threat, seed: int) -> Tensor:
        """Call `generate` on one example, with ART's PyTorchClassifier."""
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            nn.Sequential(facade, nn.Softmax(1)) if self.method in BY_PROBABILITIES else facade,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=facade.classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if x.is_cuda else "cpu",
        )
        attack = self.signature_of(self.method)(classifier, **self._settings(threat))
        goal = np.eye(facade.classes, dtype=np.float32)[y.cpu().numpy()]
        guided = threat.targeted or self.method != "SaliencyMapMethod"  # which takes any label for one to reach
        found = attack.generate(x.cpu().numpy(), y=goal if guided else None)
        return torch.from_numpy(np.asarray(found))

    def _settings(self, threat: Threat) -> dict[str, Any]:
        """Parameters of the attack, from the threat and the given settings.

        ART's own default step size is fixed for any eps, so a missing one is set to 2.5 eps / steps.
        """
        taken = inspect.signature(self.signature_of(self.method)).parameters
        named: dict[str, Any] = {
            "norm": ORDERS.get(threat.norm),
            "eps": threat.radius,
            "targeted": threat.targeted,
            "batch_size": 1,
            "verbose": False,
        }
        if self.method == "SimBA":
            named |= {"targeted": threat.targeted}
            del named["norm"]
        if "eps_step" in taken and "max_iter" in taken:
            steps = self.args.get("max_iter", taken["max_iter"].default)
            named["eps_step"] = 2.5 * threat.radius / steps
        elif "eps_step" in taken:
            named["eps_step"] = threat.radius
        return {name: value for name, value in named.items() if name in taken} | self.args


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return ART
