"""Conversion of the user's arrays (range, layout, labels), and of the radius back to their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.system.adapted import InputRule
from benchmark.threat import Norm, Threat, parse_eps
from benchmark.threat.radius import label_of_eps

__all__ = ["Bounds", "chosen_threat", "examples_of", "in_their_units", "rule_of"]

Bounds = Sequence[float] | Mapping[str, Sequence[float] | float]
"""(low, high), or {"mean": ..., "std": ...} of a normalisation."""

LAYOUTS = {"NCHW": 4, "NHWC": 4, "NHW": 3, "flat": 2}
"""Layouts and their number of axes."""

CHANNELS = (1, 3, 4)
BEYOND = 1e-5
"""Largest rounding error of a normalisation: values this far outside [0, 1] are accepted."""


def rule_of(x: Any, bounds: Bounds, layout: str | None) -> InputRule:
    """Conversion rule for inputs shaped like `x` (N, ...).

    Raises:
        ConfigError: if the bounds are invalid, or the layout does not match `x`.
    """
    shape = tuple(np.shape(x))
    guessed = layout is None
    if layout is None:
        layout = {2: "flat", 4: "NCHW"}.get(len(shape))
        if layout is None:
            raise ConfigError(f"x has the shape {shape}; set layout to one of {', '.join(LAYOUTS)}")
    if layout not in LAYOUTS:
        raise ConfigError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if len(shape) != LAYOUTS[layout] or 0 in shape:
        raise ConfigError(
            f"x has the shape {shape}, and layout is {layout}; expected {LAYOUTS[layout]} axes, none empty"
        )
    square = layout == "NCHW" and shape[2] == shape[3] != shape[1]
    if guessed and layout == "NCHW" and shape[3] in CHANNELS and shape[1] > max(CHANNELS) and not square:
        raise ConfigError(
            f"x has the shape {shape}, which looks like channels last; set layout='NHWC', or layout='NCHW' if it is not"
        )
    return InputRule(*_affine(bounds), layout)


def _affine(bounds: Bounds) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and shift from [0, 1] to the user's range."""
    if isinstance(bounds, Mapping):
        if set(bounds) != {"mean", "std"}:
            raise ConfigError(f"bounds has {', '.join(map(str, bounds))}; expected mean and std, or a pair (low, high)")
        mean, std = (tuple(np.atleast_1d(np.asarray(bounds[name], dtype=float)).tolist()) for name in ("mean", "std"))
        if len(mean) != len(std) or min(std) <= 0:
            raise ConfigError("bounds has a mean and a std that do not match; expected equal lengths, std above 0")
        return tuple(1.0 / s for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True))
    low, high = (float(value) for value in bounds) if len(bounds) == 2 else (0.0, 0.0)
    if not low < high:
        raise ConfigError(f"bounds is {bounds!r}; expected (low, high), or {{'mean': ..., 'std': ...}}")
    return (high - low,), (low,)


def examples_of(x: Any, y: Any, rule: InputRule, what: str) -> tuple[Tensor, Tensor]:
    """Inputs (N, *S) in [0, 1] or uint8, and labels (N,) int64.

    Args:
        what: name of the examples, for messages.

    Raises:
        ConfigError: if a value lies outside the bounds, or the labels are not whole numbers from 0, one per input.
    """
    given = x.detach().cpu() if isinstance(x, Tensor) else torch.from_numpy(np.array(x))
    inputs = rule.ours(given)
    if inputs.dtype != torch.uint8:
        low, high = float(inputs.min()), float(inputs.max())
        if not (low >= -BEYOND and high <= 1.0 + BEYOND):
            raise ConfigError(
                f"{what} holds values from {float(given.min()):.6g} to {float(given.max()):.6g}, which lie outside "
                "its bounds; set the range of the inputs, such as bounds=(0, 255), (-1, 1), or the mean and std of a "
                "normalisation"
            )
        inputs = inputs.clamp(0.0, 1.0)
    labels = torch.as_tensor(np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y))
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if tuple(labels.shape) != (len(inputs),) or not whole or (len(labels) and int(labels.min()) < 0):
        raise ConfigError(
            f"the labels of {what} are {str(labels.dtype).removeprefix('torch.')} of the shape {tuple(labels.shape)}; "
            f"expected ({len(inputs)},) whole numbers from 0, one label per input"
        )
    return inputs, labels.long()


def chosen_threat(threat: str | Threat, eps: float | str | None, rule: InputRule) -> Threat:
    """Threat given as an object, by the name of a file in conf/threat, or by the name of a norm with `eps`.

    Args:
        eps: in units of the user's inputs, in place of the threat's radius.

    Raises:
        ConfigError: if there is no such threat, or the radius does not have a single value in [0, 1].
    """
    import dataclasses

    chosen = threat if isinstance(threat, Threat) else _named(threat, eps)
    if eps is None:
        return chosen
    radius = parse_eps(eps)
    if chosen.norm is not Norm.l0:
        if len(set(rule.scale)) > 1:
            raise ConfigError(
                "eps is given in units of the inputs, whose channels are divided by different standard deviations, so "
                "that it has no single value in [0, 1]; give a Threat, whose eps is in units of the [0, 1] range"
            )
        radius /= Fraction(str(rule.scale[0])).limit_denominator(10**9)
    return dataclasses.replace(chosen, eps=radius)


def _named(name: str, eps: float | str | None) -> Threat:
    """Threat of a name in conf/threat, or of a norm with `eps`."""
    import importlib.resources

    from omegaconf import OmegaConf

    from benchmark.config.structured import register_fractions

    folder = importlib.resources.files("benchmark.conf").joinpath("threat")
    known = sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
    if name in {norm.value for norm in Norm}:
        if eps is None:
            raise ConfigError(f"threat is {name!r}, which has no radius; set eps too")
        return Threat(norm=Norm(name), eps=Fraction(0))
    if name not in known:
        raise ConfigError(
            f"no threat named {name!r}; expected a benchmark.Threat, one of {', '.join(known)}, or one of "
            f"{', '.join(norm.value for norm in Norm)} with eps="
        )
    register_fractions()
    values: Any = OmegaConf.to_container(
        OmegaConf.create(folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8")), resolve=True
    )
    return Threat(norm=Norm(values["norm"]), eps=parse_eps(values["eps"]))


def in_their_units(threat: Threat, rule: InputRule) -> str:
    """Sentence with the radius in units of [0, 1] and of the user's inputs."""
    if threat.norm is Norm.l0:
        return f"eps: {threat.eps} features may change (l0)."
    ours = f"eps: {label_of_eps(threat.eps)} under {threat.norm.value} in units of the [0, 1] range"
    theirs = sorted({threat.radius * scale for scale in rule.scale})
    if theirs == [threat.radius]:
        return f"{ours}, which is that of your inputs."
    span = f"{theirs[0]:.6g}" if len(theirs) == 1 else f"{theirs[0]:.6g} to {theirs[-1]:.6g}, by the channel,"
    return f"{ours}, which is {span} in the units of your inputs."
