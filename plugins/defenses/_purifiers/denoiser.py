"""Denoising network of flattened inputs for all noise levels. Karras, Aittala, Aila & Laine, NeurIPS 2022, table 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.api import Batch, DataSpec

from .networks import perceptron
from .purifier import Purifier, noise_of

__all__ = ["LEAST", "MOST", "SPREAD", "Denoiser"]

LEAST, MOST = 0.02, 2.0
"""Range of the noise's standard deviation in training, drawn log-uniformly."""
SPREAD = 0.5
"""Assumed root mean square of the inputs, which sets the scaling of the network's input and output."""


class Denoiser(Purifier):
    """D(x; sigma) = skip x + out F(in x, log(sigma) / 4), scaled so that F always has about unit input and target.

    skip = s^2 / (sigma^2 + s^2), out = sigma s / sqrt(sigma^2 + s^2) and in = 1 / sqrt(sigma^2 + s^2), with s = SPREAD.
    As sigma tends to 0, D tends to the identity.
    """

    def __init__(self, spec: DataSpec, width: int) -> None:
        super().__init__()
        size = torch.Size(spec.shape).numel()
        self.network = perceptron(size + 1, width, width, size)

    def scaled(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x; sigma) for `x` (B, D) and `sigma` (B, 1), of shape (B, D)."""
        scale = (sigma.square() + SPREAD**2).sqrt()
        inside = torch.cat([x / scale, sigma.log() / 4.0], 1)
        denoised: Tensor = (SPREAD / scale) ** 2 * x + sigma * SPREAD / scale * self.network(inside)
        return denoised

    def denoised(self, x: Tensor, sigma: float) -> Tensor:
        """Estimate of `x` (B, *S) before Gaussian noise of standard deviation `sigma` was added, (B, *S)."""
        return self.scaled(x.flatten(1), x.new_full((len(x), 1), sigma)).reshape(x.shape)

    def loss(self, batch: Batch) -> Tensor:
        """Mean squared error of the network's target per value, averaged over the batch."""
        x = batch.x.flatten(1)
        share = noise_of(batch, 1, stream="denoiser/level").mul(2**-0.5).erf().add(1.0).div(2.0)  # uniform in 0 to 1
        sigma = LEAST * (math.log(MOST / LEAST) * share).exp()
        noisy = x + sigma * noise_of(batch, x.shape[1], stream="denoiser/noise")
        weight = (sigma.square() + SPREAD**2) / (sigma * SPREAD).square()
        return (weight * (self.scaled(noisy, sigma) - x).square()).mean()
