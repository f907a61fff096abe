"""Variational autoencoder of flattened inputs. Kingma & Welling, ICLR 2014.

Conditional on a class: Sohn, Lee & Yan, NeurIPS 2015, section 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import perceptron

__all__ = ["Variational"]


class Variational(nn.Module):
    """Encoder and decoder of two layers each, with outputs in [0, 1].

    size: D, of an input. latent: L, of the code. width: of the hidden layers.
    classes: K, for networks conditional on a one-hot class (B, K); 0 for none.
    """

    def __init__(self, size: int, latent: int, width: int, classes: int = 0) -> None:
        super().__init__()
        self.encoder = perceptron(size + classes, width, 2 * latent)
        self.decoder = perceptron(latent + classes, width, size)

    def encoded(self, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, L) of the code of `x` (B, D), conditional on a class (B, K)."""
        mean, log_variance = self.encoder(torch.cat([x, given], 1)).chunk(2, 1)
        return mean, log_variance

    def decoded(self, code: Tensor, given: Tensor) -> Tensor:
        """Logits (B, D) of the decoded values in [0, 1]."""
        logits: Tensor = self.decoder(torch.cat([code, given], 1))
        return logits

    def reconstructed(self, x: Tensor, given: Tensor) -> Tensor:
        """Reconstruction of `x` from its mean code, (B, D) in [0, 1]."""
        return self.decoded(self.encoded(x, given)[0], given).sigmoid()

    def loss(self, x: Tensor, clean: Tensor, given: Tensor, noise: Tensor, beta: float) -> Tensor:
        """Negative evidence lower bound per value with the divergence weighted by `beta`, averaged over the batch.

        Args:
            x: (B, D), to be encoded.
            clean: (B, D), the target of the decoder.
            given: (B, K).
            noise: (B, L), standard normal.
        """
        mean, log_variance = self.encoded(x, given)
        code = mean + (0.5 * log_variance).exp() * noise
        error = F.binary_cross_entropy_with_logits(self.decoded(code, given), clean, reduction="none").sum(1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)
        return (error + beta * divergence).mean() / x.shape[1]
