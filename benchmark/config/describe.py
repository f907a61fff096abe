"""Descriptions of threat, attack and system for records, from a configuration."""

from __future__ import annotations

from benchmark import registry
from benchmark.config.cell import RunConfig
from benchmark.records.record import (
    AttackInfo,
    SystemInfo,
    ThreatInfo,
)


def threat_info(config: RunConfig) -> ThreatInfo:
    """The threat, as records have it."""
    threat = config.threat
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


def attack_info(config: RunConfig) -> AttackInfo:
    """The attack with its settings, as records have it."""
    can, owner = config.attack.supports, registry.distribution_of(config.attack)
    return AttackInfo(
        name=owner["name"],
        params=registry.settings(config.attack),
        distribution=owner["distribution"],
        version=owner["version"],
        minimal=can.minimal,
        randomized=can.randomized,
        bounded=can.bounded,
    )


def system_info(config: RunConfig, key: str) -> SystemInfo:
    """How records and cards name a system."""
    return SystemInfo(
        key=key,
        dataset=registry.name_of(config.dataset)[1],
        model=registry.name_of(config.model)[1],
        defenses=[registry.name_of(d)[1] for d in config.defenses],
        poison=[registry.name_of(p)[1] for p in config.poisons],
        config=config.system_settings(),
    )
