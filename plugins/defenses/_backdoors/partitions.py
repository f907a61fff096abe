"""A vote of networks, each trained on its own part of the rows. Levine & Feizi, ICLR 2021, arXiv:2006.14768."""

from __future__ import annotations

import copy
import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Examples, straight_through

__all__ = ["Partitions", "certified_rows", "parted", "vote"]

ROWS = 512


class Partitions(nn.Module):
    """Networks that vote; `start` holds the initial weights of each, which no training row has touched."""

    def __init__(self, model: nn.Module, count: int) -> None:
        super().__init__()
        self.members = nn.ModuleList([copy.deepcopy(model) for _ in range(count)])
        self.start = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def answers(self, x: Tensor) -> Tensor:
        """Logits of each network for `x` (B, *S), of shape (B, members, K)."""
        return torch.stack([member(x) for member in self.members], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Votes, with the gradient of the networks' mean probabilities, (B, K); of equal classes the first wins."""
        logits = self.answers(x)
        count = vote(logits).to(logits.dtype)
        order = torch.arange(count.shape[1], dtype=count.dtype, device=count.device)
        return straight_through(count - order / (2 * count.shape[1]), logits.softmax(2).sum(1))


def vote(logits: Tensor) -> Tensor:
    """Votes of the networks for each class, (B, K) int64, by logits (B, members, K); the first of equal logits."""
    best = logits.amax(2, keepdim=True)
    first = (logits == best).to(torch.int8).argmax(2)
    return F.one_hot(first, logits.shape[2]).sum(1)


def certified_rows(votes: Tensor, y: Tensor) -> Tensor:
    """Training rows that may be added or removed without changing the answer `y` (B,), as (B,) int64; -1 if wrong.

    Each row is in one part, so it changes one vote: the least over classes c of floor((n_y - n_c - [c < y]) / 2).
    """
    own = votes.gather(1, y[:, None])
    before = torch.arange(votes.shape[1], device=votes.device) < y[:, None]
    slack = (own - votes - before.long()).div(2, rounding_mode="floor")
    return slack.scatter(1, y[:, None], int(1e9)).amin(1).clamp_min(-1)


def parted(train: Examples, count: int) -> list[Tensor]:
    """Positions of the rows of each part, (n,) int64: by a hash of the input, and in the order of that hash.

    Which part a row is in, and where, depends on no other row; its label decides among rows of the same input.
    """
    keys: list[tuple[bytes, int, int]] = []
    for at in torch.arange(len(train)).split(ROWS):
        for position, row in zip(at.tolist(), train.x(at), strict=True):
            digest = hashlib.blake2b(row.contiguous().numpy().astype("<f4").tobytes(), digest_size=16).digest()
            keys.append((digest, int(train.y[position]), position))
    keys.sort()
    parts: list[list[int]] = [[] for _ in range(count)]
    for digest, _, position in keys:
        parts[int.from_bytes(digest, "big") % count].append(position)
    return [torch.tensor(part, dtype=torch.int64) for part in parts]
