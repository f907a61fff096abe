"""Conversion of threat and attack to their form in records, and back."""

from __future__ import annotations

import dataclasses
import hashlib
from enum import Enum
from pathlib import Path

from benchmark import registry
from benchmark.api import Attack
from benchmark.errors import ConfigError, DataError, RecordError, Unproved
from benchmark.records.described import AttackInfo, ThreatInfo
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat, parse_eps
from benchmark.threat.mask import read_mask

__all__ = ["MASK", "attack_info", "mask_digest", "parsed_threat", "recorded_threat", "threat_info"]


MASK = "mask.safetensors"
"""File beside a record with the mask of its region, if that came from a file."""


def threat_info(threat: Threat, *, by_content: bool = True) -> ThreatInfo:
    """Threat as stored in records: the threat's fields of the same names, as plain values.

    Args:
        by_content: identify a mask file by a digest of its content, if it can be read, instead of its path.
    """
    told = {
        **{field.name: _plain(getattr(threat, field.name)) for field in dataclasses.fields(threat)},
        "eps": threat.radius,
        "eps_exact": str(threat.eps),
        "targeted": threat.targeted,
        "region": _region(threat.region, by_content=by_content),
    }
    return ThreatInfo.model_validate({name: told[name] for name in ThreatInfo.model_fields})


def _region(region: Region, *, by_content: bool) -> str:
    if region.kind is not RegionKind.file or not by_content or not Path(region.path).is_file():
        return str(region)
    return f"{region.kind.value}:{mask_digest(Path(region.path))}"


def mask_digest(path: Path) -> str:
    """Identifier of a mask: 24 hexadecimal digits of a digest over its shape and values."""
    open_at = read_mask(path)
    return hashlib.sha256(f"{open_at.shape}".encode() + open_at.tobytes()).hexdigest()[:24]


def recorded_threat(info: ThreatInfo, folder: Path | None = None) -> Threat:
    """Threat described by a record: the inverse of :func:`threat_info`.

    Args:
        folder: of the record, with the mask of a region that came from a file.

    Raises:
        RecordError: if the mask is not the recorded one, or this version does not know a value.
        Unproved: if the mask is missing.
    """
    threat = parsed_threat(info)
    if threat.region.kind is not RegionKind.file:
        return threat
    if folder is None or not (folder / MASK).is_file():
        raise Unproved(f"its region is a mask file, and no {MASK} lies beside the record")
    path = folder / MASK
    try:
        same = str(threat.region) == f"{RegionKind.file.value}:{mask_digest(path)}"
    except DataError as error:
        raise RecordError(str(error)) from error
    if not same:
        raise RecordError(f"{path} is not the mask in the record")
    return dataclasses.replace(threat, region=Region(RegionKind.file, path=str(path)))


def parsed_threat(info: ThreatInfo) -> Threat:
    """Threat described by a record, with the name of a mask in place of its file.

    Raises:
        RecordError: if this version does not know a value.
    """
    kind, _, size = info.region.partition(":")
    try:
        masked = RegionKind(kind) is RegionKind.file
        region = Region(RegionKind.file, path=size) if masked else Region(RegionKind(kind), int(size or 0))
        return _threat(info, region)
    except (ConfigError, ValueError) as error:
        raise RecordError(f"its threat is unknown to this version: {error}") from error


def _threat(info: ThreatInfo, region: Region) -> Threat:
    given = {name: value for name, value in info if name in {field.name for field in dataclasses.fields(Threat)}}
    return Threat(
        **given
        | {
            "norm": Norm(info.norm),
            "goal": Goal(info.goal),
            "access": Access(info.access),
            "eps": parse_eps(info.eps_exact),
            "region": region,
        }
    )


def _plain(value: object) -> object:
    """Value of an enum, description of a region, anything else unchanged."""
    return value.value if isinstance(value, Enum) else str(value) if isinstance(value, Region) else value


def attack_info(attack: Attack) -> AttackInfo:
    """Attack with its settings, as stored in records."""
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
