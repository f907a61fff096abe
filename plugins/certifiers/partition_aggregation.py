"""Certificate of deep partition aggregation, in rows. Levine & Feizi, ICLR 2021, arXiv:2006.14768, section 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from benchmark.api import Certifier, Defense, Refused, Supports, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.api import SampleRandom, System, Threat

SPOILS = ("prepare", "finish", "repair")
"""Stages in which another defense may let one training row affect several networks."""


@dataclass(frozen=True)
class PartitionAggregation(Certifier):
    """Certified number of training rows that may be added or removed, for systems with defense=partition_aggregation.

    A changed row counts as two, one removed and one added, unless its input is unchanged (a flipped label): then its
    partition is too, and it counts as one. Test-time distances are not certified, so every radius is 0.
    """

    supports: ClassVar[Supports] = Supports()

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Zeros, (B,) float32.

        Raises:
            Refused: if the system is not a vote of networks with separate partitions.
        """
        _check(system)
        return x.new_zeros(len(x)).float()

    def certify_rows(self, system: System, x: Tensor, y: Tensor, *, rng: SampleRandom) -> Tensor:
        """Certified number of training rows, (B,) int64; one pass through every network.

        Raises:
            Refused: if the system is not a vote of networks with separate partitions.
        """
        import torch

        from ..defenses._backdoors.partitions import certified_rows, vote

        voters = _check(system)
        with torch.no_grad():
            return certified_rows(vote(voters.answers(x)), y).clamp_min(0)


def _check(system: System):  # type: ignore[no-untyped-def] # the class imports torch
    """Voting networks of a system to which the certificate applies."""
    from ..defenses._backdoors.partitions import Partitions

    if system.defended_at_inference or system.randomized or not isinstance(system.model, Partitions):
        raise Refused(
            "certifier.partition_aggregation counts the votes of defense=partition_aggregation, but the system is not "
            "such a vote or is defended at inference; choose that defense alone"
        )
    for defense in system.defenses:
        stages = [s for s in SPOILS if getattr(type(defense), s, None) is not getattr(Defense, s)]
        if stages and type(defense).__name__ != "PartitionAggregation":
            raise Refused(
                f"certifier.partition_aggregation holds if a row affects one network, but {type(defense).__name__} "
                f"sees all rows (its {', '.join(stages)}); leave it out, or the certifier"
            )
    return system.model


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return PartitionAggregation
