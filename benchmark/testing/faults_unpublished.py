"""A method that comes from nowhere: this page names no source."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.testing.faults_attack import SoundAttack

__all__ = ["NamesNoPaper"]


@dataclass(frozen=True)
class NamesNoPaper(SoundAttack):
    """Sound, and its file does not say where it comes from."""
