"""Threat and attack, as records have them, and back."""

from __future__ import annotations

import dataclasses
from enum import Enum

from benchmark import registry
from benchmark.api import Attack
from benchmark.errors import ConfigError, RecordError
from benchmark.records.record import AttackInfo, ThreatInfo
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat, parse_eps

__all__ = ["attack_info", "recorded_threat", "threat_info"]


def threat_info(threat: Threat) -> ThreatInfo:
    """The threat, as records have it: each field of the record by the field of that name, in plain values."""
    told = {
        **{field.name: _plain(getattr(threat, field.name)) for field in dataclasses.fields(threat)},
        "eps": threat.radius,
        "eps_exact": str(threat.eps),
        "targeted": threat.targeted,
    }
    return ThreatInfo.model_validate({name: told[name] for name in ThreatInfo.model_fields})


def recorded_threat(info: ThreatInfo) -> Threat:
    """The threat that a record describes: the inverse of :func:`threat_info`.

    Raises:
        RecordError: if its region is a mask file, which no record holds, or a value is none that this version knows.
    """
    kind, _, size = info.region.partition(":")
    if kind == RegionKind.file.value:
        raise RecordError("its region is a mask file, which a record does not hold; verify it where it was run")
    given = {name: value for name, value in info if name in {field.name for field in dataclasses.fields(Threat)}}
    try:
        return Threat(
            **given
            | {
                "norm": Norm(info.norm),
                "goal": Goal(info.goal),
                "access": Access(info.access),
                "eps": parse_eps(info.eps_exact),
                "region": Region(RegionKind(kind), int(size or 0)),
            }
        )
    except (ConfigError, ValueError) as error:
        raise RecordError(f"its threat is none that this version knows: {error}") from error


def _plain(value: object) -> object:
    """An enum by its value, a region in words, anything else as it is."""
    return value.value if isinstance(value, Enum) else str(value) if isinstance(value, Region) else value


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
