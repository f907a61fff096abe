"""Descriptions of threat and attack for records."""

from __future__ import annotations

from benchmark import registry
from benchmark.api import Attack
from benchmark.records.record import AttackInfo, ThreatInfo
from benchmark.threat import Threat

__all__ = ["attack_info", "threat_info"]


def threat_info(threat: Threat) -> ThreatInfo:
    """The threat, as records have it."""
    return ThreatInfo(
        norm=threat.norm.value,
        eps=threat.radius,
        eps_exact=str(threat.eps),
        access=threat.access.value,
        aware=threat.aware,
        targeted=threat.targeted,
        goal=threat.goal.value,
        region=str(threat.region),
        queries=threat.queries,
        eot=threat.eot,
        surrogate=threat.surrogate,
        levels=threat.levels,
    )


def attack_info(attack: Attack) -> AttackInfo:
    """The attack with its settings, as records have it."""
    can, owner = attack.supports, registry.distribution_of(attack)
    return AttackInfo(
        name=owner["name"],
        params=registry.settings(attack),
        distribution=owner["distribution"],
        version=owner["version"],
        minimal=can.minimal,
        randomized=can.randomized,
        bounded=can.bounded,
    )
