"""Check that the parts of a configuration fit together, before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark import registry
from benchmark.api import Attack, Defense
from benchmark.config.cell import RunConfig
from benchmark.errors import Refused
from benchmark.threat import Threat

if TYPE_CHECKING:
    pass

__all__ = ["check", "check_attack"]


def check(config: RunConfig) -> None:
    """Whether the parts fit together.

    Raises:
        Refused: with what does not fit and what would.
    """
    threat = config.threat
    check_attack(config.attack, threat)
    _check_learner(config)
    for certifier in config.certifiers:
        if threat.norm not in certifier.supports.norms:
            raise Refused(
                f"certifier.{registry.name_of(certifier)[1]} certifies under "
                f"{', '.join(sorted(n.value for n in certifier.supports.norms))}, and threat.norm is "
                f"{threat.norm.value}; choose another certifier or norm"
            )


def check_attack(chosen: Attack, threat: Threat) -> None:
    """Whether an attack can do what a threat asks.

    Raises:
        Refused: with what does not fit and what would.
    """
    attack, can = registry.name_of(chosen)[1], chosen.supports
    norms = ", ".join(sorted(n.value for n in can.norms))
    if threat.norm not in can.norms:
        raise Refused(
            f"attack.{attack} perturbs under {norms or 'no norm'}, and threat.norm is {threat.norm.value}; choose a "
            f"threat of another norm (conf/threat/) or an attack that supports {threat.norm.value}"
        )
    if threat.targeted and not can.targeted:
        raise Refused(
            f"attack.{attack} is untargeted, and threat.goal is {threat.goal.value}; choose an attack that supports "
            "targets (benchmark plugins attack), or threat.goal=untargeted"
        )
    if not threat.access.grants(can.access):
        raise Refused(
            f"attack.{attack} needs {can.access.value}, and threat.access is {threat.access.value}; choose an attack "
            f"that is content with {threat.access.value}, or threat.access={can.access.value}"
        )


BY_GRADIENTS = ("build", "loss", "training_threat", "after_step", "finish")
"""The stages of a defense that change what is trained by gradients, or how."""


def _check_learner(config: RunConfig) -> None:
    """A model that is not trained by gradients takes no defense that changes such training, and no weights to start."""
    if not config.model.learns():
        return
    model = registry.name_of(config.model)[1]
    for defense in config.defenses:
        stages = [stage for stage in BY_GRADIENTS if getattr(type(defense), stage) is not getattr(Defense, stage)]
        if stages:
            raise Refused(
                f"model.{model} is not trained by gradients, and defense.{registry.name_of(defense)[1]} is about such "
                f"training (its {', '.join(stages)}); choose a defense that changes the data or acts at inference, or "
                "another model"
            )
    if config.system.init_from:
        raise Refused(f"model.{model} is not trained by gradients, so it cannot go on from system.init_from")
