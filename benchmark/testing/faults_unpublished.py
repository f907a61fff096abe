"""A method that comes from nowhere: this page names no source."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.testing.faults_attack import SoundAttack

__all__ = ["NamesNoPaper"]


@dataclass(frozen=True)
class NamesNoPaper(SoundAttack):
    """A sound attack whose file does not name a source."""
