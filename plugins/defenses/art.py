"""Adversarial Robustness Toolbox: its preprocessors by name, at inference. Nicolae et al., 2018, arXiv:1807.01069."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Defense, hookimpl, straight_through

from .._toolkit import check_args, check_method, imported, installed, installed_version, parameters_of
from ._transforms.behind import Behind, refuse_other_than_images
from .median_smoothing import MedianSmoothing

PACKAGE, DISTRIBUTION = "art", "adversarial-robustness-toolbox"
INSTALL = "pip install 'adversarial-benchmark[art]'"
MODULE = "art.defences.preprocessor"

METHODS = {
    "FeatureSqueezing": "any data; rounds to bit_depth bits",
    "JpegCompression": "images; each channel by itself, unless there are three",
    "SpatialSmoothing": "images; the median of a window",
}
"""Offered preprocessors, with what they work on. All answer each input by itself, and the same each time."""

_TRAINING = "changes training alone"
_FRAMEWORK = "is for TensorFlow"
_SOUND = "is about sound or video, and not about classifiers of one array"
LEFT_OUT = {
    **dict.fromkeys(["CutMix", "CutMixPyTorch", "Cutout", "CutoutPyTorch"], f"{_TRAINING}; defense=cutmix is native"),
    **dict.fromkeys(["Mixup", "MixupPyTorch"], f"{_TRAINING}; defense=mixup is native"),
    "LabelSmoothing": f"{_TRAINING}; defense=label_smoothing is native",
    **dict.fromkeys(["CutMixTensorFlowV2", "CutoutTensorFlowV2", "MixupTensorFlowV2"], f"{_FRAMEWORK}, and training"),
    "SpatialSmoothingTensorFlowV2": f"{_FRAMEWORK}; SpatialSmoothing is the same filter",
    "SpatialSmoothingPyTorch": "needs kornia, which ART does not install; defense=median_smoothing has gradients",
    **dict.fromkeys(
        ["Mp3Compression", "Mp3CompressionPyTorch", "Resample", "VideoCompression", "VideoCompressionPyTorch"], _SOUND
    ),
    "GaussianAugmentation": "draws from NumPy's global generator; defense=smoothing draws for each example",
    "TotalVarMin": "draws from NumPy's global generator; defense=total_variation draws for each example",
    "ThermometerEncoding": "changes the shape of the inputs; defense=thermometer builds the network for that",
    "PixelDefend": "needs a PixelCNN that is trained already",
}
"""Preprocessors of ART that are not offered, with the reason."""

OWNED = frozenset({"self", "clip_values", "channels_first", "apply_fit", "apply_predict", "verbose"})
"""Parameters that the bridge sets."""


@dataclass(frozen=True)
class ART(Defense):
    """A preprocessor of ART before the model, by the name of its class; the training data are unchanged.

    The surrogate for gradients is the identity (BPDA, Athalye et al., ICML 2018, section 4.1), as in ART itself;
    attackers who know the defense also search on the native median filter. Not offered: ART's detectors, transformers
    and trainers, which train classifiers of ART's own classes, and its postprocessors, which blur probabilities against
    the theft of a model.

    method: the name in ART. args: its parameters, by their names there, checked against its signature.
    version: of ART; filled in, and part of every key and record. Given, another installed version is refused.
    """

    neutral: ClassVar = {"method": "SpatialSmoothing", "args": {"window_size": 1}}

    method: str = "SpatialSmoothing"
    args: dict[str, Any] = field(default_factory=dict)
    version: str = ""

    def __post_init__(self) -> None:
        found = installed_version("defense.art", "art", PACKAGE, DISTRIBUTION, INSTALL, self.version)
        object.__setattr__(self, "version", found)
        if self.method in LEFT_OUT:
            raise ConfigError(
                f"art.method is {self.method}, which {LEFT_OUT[self.method]}; expected one of {', '.join(METHODS)}"
            )
        check_method("defense.art", "art", PACKAGE, self.method, offered())
        taken = parameters_of(signature_of(self.method), OWNED)
        check_args("art", f"ART's {self.method}", self.args, taken, OWNED, "from the data, which lie in [0, 1]")
        try:
            self._made()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"art.args are {self.args}, which ART's {self.method} refuses: {error}") from error

    def __hash__(self) -> int:
        return hash((type(self), self.method, repr(self.args), self.version))

    def _made(self) -> Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], Any]]:
        """ART's object."""
        maker = signature_of(self.method)
        fixed = {"clip_values": (0.0, 1.0), "channels_first": True, "apply_fit": False, "apply_predict": True}
        has = parameters_of(maker, ())
        made: Callable[..., Any] = maker(**{name: fixed[name] for name in fixed if name in has}, **self.args)
        return made

    @classmethod
    def offers(cls) -> tuple[str, ...]:
        """The preprocessors, a line each, or how to install the toolkit."""
        if not installed(PACKAGE):
            return (f"{DISTRIBUTION} is not installed: {INSTALL}",)
        return tuple(f"{name}  {METHODS[name]}" for name in offered())

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images for methods that need images."""
        if METHODS[self.method].startswith("images"):
            refuse_other_than_images(spec, f"defense.art with {self.method}", self._window)

    @property
    def _window(self) -> int:
        """Side of the window of a filter, 1 for a method without one."""
        return int(self.args.get("window_size", 3)) if self.method == "SpatialSmoothing" else 1

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the preprocessor before the model."""
        return Behind(model, partial(preprocessed, self._made()))

    def smoother(self) -> tuple[Defense, ...]:
        """For the median of a window, the native one, whose gradient is that of the selected pixel."""
        return (MedianSmoothing(size=self._window),) if self._window > 1 else ()


def offered() -> tuple[str, ...]:
    """Names of the known preprocessors that the installed toolkit has."""
    return tuple(name for name in METHODS if hasattr(imported(MODULE), name))


def signature_of(method: str) -> Callable[..., Any]:
    """Class of a preprocessor."""
    found: Callable[..., Any] = getattr(imported(MODULE), method)
    return found


def preprocessed(call: Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], Any]], x: Tensor) -> Tensor:
    """Output of a preprocessor for `x` (B, *S) in [0, 1], (B, *S), with the gradient of the identity."""
    given = x.detach().to("cpu", torch.promote_types(x.dtype, torch.float32))
    made, _ = call(given.clamp(0.0, 1.0).numpy())
    return straight_through(torch.from_numpy(np.ascontiguousarray(made)).to(x), x)


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return ART
