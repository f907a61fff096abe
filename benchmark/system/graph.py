"""Graph of a pass that gradients follow, in one or several pieces of rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Graph", "Piece", "gradient_of"]


@dataclass(frozen=True)
class Piece:
    """Some rows of a pass. leaf: (r', *S), padded. output: (r', K), or (r, K) without padding. count: r rows."""

    leaf: Tensor
    output: Tensor
    count: int

    def pulled(self, cotangent: Tensor, *, keep: bool) -> Tensor:
        """Gradient (r, *S) for a cotangent (r, K)."""
        full = cotangent
        if len(self.output) > self.count:
            full = self.output.new_zeros(self.output.shape)
            full[: self.count] = cotangent
        return gradient_of(self.output, self.leaf, full, keep=keep)[: self.count]


@dataclass(frozen=True)
class Graph:
    """One pass that a gradient can follow, R rows in all."""

    pieces: tuple[Piece, ...]

    def scores(self) -> Tensor:
        """(R, K), detached."""
        return torch.cat([piece.output.detach()[: piece.count] for piece in self.pieces])

    def asked(self) -> Tensor:
        """(R, K) scores to compute a loss of: those of the graph, or a leaf in their place if it has several pieces."""
        if len(self.pieces) > 1:
            return self.scores().requires_grad_(True)
        (piece,) = self.pieces
        return piece.output if len(piece.output) == piece.count else piece.output[: piece.count]

    def descended(self, total: Tensor, scores: Tensor) -> Tensor:
        """Gradient (R, *S) of a number that was computed from `scores`, as :meth:`asked` gave them."""
        if len(self.pieces) > 1:
            return self.pulled(gradient_of(total, scores), keep=False)
        (piece,) = self.pieces
        return gradient_of(total, piece.leaf)[: piece.count]

    def pulled(self, cotangent: Tensor, *, keep: bool) -> Tensor:
        """Gradient (R, *S) for a cotangent (R, K)."""
        parts = cotangent.split([piece.count for piece in self.pieces])
        grads = [piece.pulled(part, keep=keep) for piece, part in zip(self.pieces, parts, strict=True)]
        return torch.cat(grads) if len(grads) > 1 else grads[0]


def gradient_of(root: Tensor, leaf: Tensor, cotangent: Tensor | None = None, *, keep: bool = False) -> Tensor:
    """The gradient of `root` in the shape of `leaf`; zero where nothing in the system is differentiable.

    Args:
        keep: whether the graph is asked again.
    """
    found: Tensor | None = None
    if root.requires_grad:
        (found,) = torch.autograd.grad(root, leaf, cotangent, retain_graph=keep, allow_unused=True)
    return torch.zeros_like(leaf) if found is None else found
