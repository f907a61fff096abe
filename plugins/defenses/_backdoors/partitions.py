"""Voting networks, each trained on its own partition of the rows. Levine & Feizi, ICLR 2021, arXiv:2006.14768."""

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
    """Voting networks; `start` holds the initial weights of each, which depend on no training row."""

    def __init__(self, model: nn.Module, count: int) -> None:
        super().__init__()
        self.members = nn.ModuleList([copy.deepcopy(model) for _ in range(count)])
        self.start = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def answers(self, x: Tensor) -> Tensor:
        """Logits of each network for `x` (B, *S), (B, members, K)."""
        return torch.stack([member(x) for member in self.members], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Votes (B, K) with the gradient of the networks' mean probabilities; ties go to the lower class."""
        logits = self.answers(x)
        count = vote(logits).to(logits.dtype)
        order = torch.arange(count.shape[1], dtype=count.dtype, device=count.device)
        return straight_through(count - order / (2 * count.shape[1]), logits.softmax(2).sum(1))


def vote(logits: Tensor) -> Tensor:
    """Votes of the networks per class, (B, K) int64, from logits (B, members, K); ties go to the lower class."""
    best = logits.amax(2, keepdim=True)
    first = (logits == best).to(torch.int8).argmax(2)
    return F.one_hot(first, logits.shape[2]).sum(1)


def certified_rows(votes: Tensor, y: Tensor) -> Tensor:
    """Rows that may be added or removed without changing the answer `y` (B,); (B,) int64, -1 if wrong.

    Each row belongs to one partition and so changes one vote: the minimum over c of floor((n_y - n_c - [c < y]) / 2).
    """
    own = votes.gather(1, y[:, None])
    before = torch.arange(votes.shape[1], device=votes.device) < y[:, None]
    slack = (own - votes - before.long()).div(2, rounding_mode="floor")
    return slack.scatter(1, y[:, None], int(1e9)).amin(1).clamp_min(-1)


def parted(train: Examples, count: int) -> list[Tensor]:
    """Positions of the rows of each partition, (n,) int64, assigned by a hash of the input and sorted by that hash.

    The partition and the place of a row depend on no other row; rows with the same input are sorted by label.
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
