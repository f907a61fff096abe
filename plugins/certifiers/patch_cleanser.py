"""PatchCleanser's certificate. Xiang, Mahloujifar & Mittal, USENIX Security 2022, arXiv:2108.09135, section 3.4.

If the image has the correct label under every one and every two masks, then so it has in the defended system, for any
content and position of a patch of the declared size (theorem 1), because one of the masks covers it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from benchmark.api import Certifier, Norm, Refused, RegionKind, Supports, Threat, hookimpl

if TYPE_CHECKING:
    from benchmark.api import SampleRandom, System


@dataclass(frozen=True)
class PatchCertificate(Certifier):
    """For a system behind `defense=[patch_cleanser]`, under a square region no larger than its patch, or one feature.

    The radius is then that of the whole box, since anything may change within the patch. Passes per example: M + M (M -
    1) / 2 for M masks.
    """

    supports: ClassVar[Supports] = Supports()

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Diameter of the region in the norm, or 1 feature under l0, where all labels agree with `y`, (B,) float32.

        Raises:
            Refused: if the system is another, or the masks do not cover the region.
        """
        from ..defenses.patch_cleanser import DoubleMasking, masked_windows

        module = system.protected
        if type(module) is not DoubleMasking or system.randomized or system.detectors:
            raise Refused(
                f"certifier.patch_cleanser is for systems behind defense.patch_cleanser, but the deployed module is "
                f"{type(module).__name__}; add that defense as the last one, or choose another certifier"
            )
        radius = _radius(threat, module.patch, x.shape[1])
        windows = masked_windows(tuple(x.shape[1:]), module.patch, module.masks).to(x.device)
        first, second = torch.triu_indices(
            len(windows), len(windows), device=x.device
        )  # a pair of one mask is the mask
        agree = torch.ones(len(x), dtype=torch.bool, device=x.device)
        with torch.no_grad():
            for part in torch.arange(len(first), device=x.device).split(64):
                scores = module.scores(x, windows[first[part]] | windows[second[part]])
                said = torch.where(torch.isfinite(scores).all(2), scores.argmax(2), -1)
                agree &= (said == y[:, None]).all(1)
        return torch.where(agree, radius, 0.0)


def _radius(threat: Threat, patch: int, channels: int) -> float:
    """Largest distance that a change inside the patch can reach, under the threat's norm.

    Raises:
        Refused: if the threat allows more than the patch.
    """
    region = threat.region
    if region.kind is RegionKind.square and region.size <= patch:
        features = float(channels * region.size**2)
        return {Norm.linf: 1.0, Norm.l2: math.sqrt(features)}.get(threat.norm, features)
    if threat.norm is Norm.l0:
        return 1.0
    raise Refused(
        f"certifier.patch_cleanser proves nothing outside a patch of {patch}x{patch} pixels, but threat.region is "
        f"{region}; choose threat.region.kind=square and threat.region.size={patch}, or another certifier"
    )


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return PatchCertificate
