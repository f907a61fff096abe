"""Denoising network of flattened inputs, for all noise levels. Karras, Aittala, Aila & Laine, NeurIPS 2022, table 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.api import Batch, DataSpec

from .networks import perceptron
from .purifier import Purifier, noise_of

__all__ = ["LEAST", "MOST", "SPREAD", "Denoiser"]

LEAST, MOST = 0.02, 2.0
"""Standard deviations of the noise in training, drawn evenly on a logarithmic scale."""
SPREAD = 0.5
"""Assumed root mean square of the inputs, by which input and output of the network are scaled."""


class Denoiser(Purifier):
    """D(x; sigma) = skip x + out F(in x, log(sigma) / 4), scaled so that F always has about unit input and target.

    skip = s^2 / (sigma^2 + s^2), out = sigma s / sqrt(sigma^2 + s^2) and in = 1 / sqrt(sigma^2 + s^2), with s = SPREAD:
    as sigma goes to 0, nothing is left to the network, and D goes to the identity.
    """

    def __init__(self, spec: DataSpec, width: int) -> None:
        super().__init__()
        size = torch.Size(spec.shape).numel()
        self.network = perceptron(size + 1, width, width, size)

    def scaled(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(B, D): D(x; sigma) for `x` (B, D) and `sigma` (B, 1)."""
        scale = (sigma.square() + SPREAD**2).sqrt()
        inside = torch.cat([x / scale, sigma.log() / 4.0], 1)
        denoised: Tensor = (SPREAD / scale) ** 2 * x + sigma * SPREAD / scale * self.network(inside)
        return denoised

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        """Best guess of what `x` was before noise of standard deviation `sigma` was added, (B, *S)."""
        return self.scaled(x.flatten(1), x.new_full((len(x), 1), sigma)).reshape(x.shape)

    def loss(self, batch: Batch) -> Tensor:
        """Squared error of the network's own target, per value, the mean over the batch."""
        x = batch.x.flatten(1)
        share = noise_of(batch, 1, stream="denoiser/level").mul(2**-0.5).erf().add(1.0).div(2.0)  # uniform in 0 to 1
        sigma = LEAST * (math.log(MOST / LEAST) * share).exp()
        noisy = x + sigma * noise_of(batch, x.shape[1], stream="denoiser/noise")
        weight = (sigma.square() + SPREAD**2) / (sigma * SPREAD).square()
        return (weight * (self.scaled(noisy, sigma) - x).square()).mean()
