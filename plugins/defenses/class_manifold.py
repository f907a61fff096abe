"""Purification on the manifold of each class (PuVAE). Hwang et al., IEEE Access 7, 2019, arXiv:1903.00585.

The input is projected to the manifold of each class, and the closest projection is classified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, hookimpl

from ._purifiers.purifier import Accompanied, OnceFitted, Purifier, noise_of
from ._purifiers.variational import Variational
from ._transforms.behind import Behind, inside


class Manifolds(Enum):
    """Manifold of a class.

    vae: reconstructions of a class-conditional variational autoencoder, as in the paper. pca: affine subspace of the
    largest principal components, the limit of linear networks (Tipping & Bishop, 1999), in closed form.
    """

    vae = "vae"
    pca = "pca"


@dataclass(frozen=True)
class ClassManifold(Defense):
    """Replace the input by its closest projection in squared distance; the gradient is that of this projection.

    manifold: see :class:`Manifolds`. latent: dimension of a manifold. width: of the autoencoder's hidden layers; it is
    trained by the run's recipe together with the classifier. beta: weight of the divergence in its loss, 1 in the
    paper, where images are larger. temperature: mixes the projections by the softmax of their negative squared
    distances over the temperature; 0 takes the closest.
    """

    manifold: Manifolds = Manifolds.vae
    latent: int = 16
    width: int = 256
    beta: float = 0.1
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if not self.beta >= 0.0:
            raise ConfigError(f"class_manifold.beta is {self.beta}; expected a weight of at least 0")
        if self.latent < 1 or self.width < 1 or not self.temperature >= 0.0:
            raise ConfigError(
                f"class_manifold has latent {self.latent}, width {self.width} and temperature {self.temperature}; "
                "expected layers of at least 1 unit and a temperature of at least 0"
            )

    @property
    def _purifier(self) -> type[Conditional] | type[Subspaces]:
        return Subspaces if self.manifold is Manifolds.pca else Conditional

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach the manifolds to the model."""
        size = torch.Size(spec.shape).numel()
        if self.manifold is Manifolds.pca:
            return Accompanied(model, Subspaces(size, spec.classes, self.latent))
        return Accompanied(model, Conditional(size, spec.classes, self.latent, self.width))

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train the autoencoder, or compute the components."""
        purifier = inside(model, self._purifier)
        with purifier.fitting():
            if isinstance(purifier, Subspaces):
                purifier.keep(train)
            else:
                fit(purifier, train, self._bound)

    def _bound(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, Conditional)
        x = batch.x.flatten(1)
        given = nn.functional.one_hot(batch.y, model.classes).to(x.dtype)
        return model.network.loss(x, x, given, noise_of(batch, self.latent, stream="class_manifold"), self.beta)

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the projection before the model."""
        purifier = inside(model, self._purifier)
        return Behind(model, OnceFitted(purifier, partial(_projected, purifier, temperature=self.temperature)))

    def smoother(self) -> tuple[Defense, ...]:
        """A mixture of the projections instead of the closest."""
        return (replace(self, temperature=1.0),) if self.temperature == 0.0 else ()


class Conditional(Purifier):
    """Reconstructions of a class-conditional autoencoder. classes: K."""

    def __init__(self, size: int, classes: int, latent: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.network = Variational(size, latent, width, classes)

    def projections(self, x: Tensor) -> Tensor:
        """Projection of `x` (B, D) to the manifold of each class, of shape (B, K, D)."""
        given = torch.eye(self.classes, dtype=x.dtype, device=x.device)
        return torch.stack([self.network.reconstructed(x, one.expand(len(x), -1)) for one in given], 1)


class Subspaces(Purifier):
    """Affine subspaces. mean: (K, D). basis: (K, D, L), orthonormal columns, or zero if there are too few examples."""

    mean: Tensor
    basis: Tensor

    def __init__(self, size: int, classes: int, latent: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("mean", torch.zeros(classes, size))
        self.register_buffer("basis", torch.zeros(classes, size, latent))

    def keep(self, train: Examples) -> None:
        """Set mean and basis to the principal components of each class's training examples, in double precision."""
        x = train.x().flatten(1).double()
        self.basis.zero_()
        for label in range(self.classes):
            own = x[train.y == label]
            if not len(own):
                continue
            _, size, components = torch.linalg.svd(own - own.mean(0), full_matrices=False)
            found = components[size > 1e-9][: self.basis.shape[2]]
            self.mean[label] = own.mean(0).to(self.mean)
            self.basis[label, :, : len(found)] = found.T.to(self.basis)

    def projections(self, x: Tensor) -> Tensor:
        """Projection of `x` (B, D) to the subspace of each class, of shape (B, K, D)."""
        return torch.stack([m + (x - m) @ b @ b.T for m, b in zip(self.mean, self.basis, strict=True)], 1)


def closest(x: Tensor, projections: Tensor, temperature: float) -> Tensor:
    """Closest of the projections (B, K, D) to `x` (B, D), or their mixture at a temperature, (B, D)."""
    distance = (projections - x[:, None]).square().sum(2)
    if temperature > 0.0:
        return ((-distance / temperature).softmax(1)[..., None] * projections).sum(1)
    nearest = distance.argmin(1)
    return projections.gather(1, nearest[:, None, None].expand(-1, 1, x.shape[1])).squeeze(1)


def _projected(purifier: Conditional | Subspaces, x: Tensor, temperature: float) -> Tensor:
    flat = x.flatten(1)
    return closest(flat, purifier.projections(flat), temperature).clamp(0.0, 1.0).reshape(x.shape)


@hookimpl
def benchmark_component() -> type[ClassManifold]:
    """Register the plugin."""
    return ClassManifold
