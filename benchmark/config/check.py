"""Check that the parts of a configuration fit together, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark import registry
from benchmark.api import Attack, Defense
from benchmark.config.cell import RunConfig
from benchmark.data import DataSpec
from benchmark.errors import Refused
from benchmark.threat import Access, Goal, Threat

__all__ = ["check_attack", "check_fit", "check_goal"]

COUNTED_LABELS = 5
"""Number of top labels that the goal top5 considers."""


def check_fit(config: RunConfig) -> None:
    """Refuse parts that do not fit together.

    Raises:
        Refused: names the conflict and a choice that fits.
    """
    threat = config.threat
    _check_tasks(config)
    check_attack(config.attack, threat)
    _check_trigger(config)
    _check_learner(config)
    _check_alone(config.defenses)
    _check_answers(config)
    for certifier in config.certifiers:
        if threat.norm not in certifier.supports.norms:
            raise Refused(
                f"certifier.{registry.name_of(certifier)[1]} certifies under "
                f"{', '.join(sorted(n.value for n in certifier.supports.norms))}, but threat.norm is "
                f"{threat.norm.value}; choose another certifier or norm"
            )


def _check_tasks(config: RunConfig) -> None:
    """Check that every part supports the task of the dataset."""
    (task,) = config.dataset.tasks
    for part in config.parts:
        if task not in part.tasks:
            kind, name = registry.name_of(part)
            raise Refused(
                f"{kind}.{name} supports {' and '.join(sorted(part.tasks))}, and "
                f"dataset.{registry.name_of(config.dataset)[1]} is for {task}; choose one whose `tasks` name {task} "
                f"(docs/tasks.md lists them)"
            )


def check_attack(chosen: Attack, threat: Threat) -> None:
    """Refuse an attack that does not support a threat.

    Raises:
        Refused: names the conflict and a choice that fits.
    """
    attack, can = registry.name_of(chosen)[1], chosen.supports
    norms = ", ".join(sorted(n.value for n in can.norms))
    if threat.norm not in can.norms:
        raise Refused(
            f"attack.{attack} perturbs under {norms or 'no norm'}, but threat.norm is {threat.norm.value}; choose a "
            f"threat of another norm (conf/threat/) or an attack that supports {threat.norm.value}"
        )
    if threat.targeted and not can.targeted:
        raise Refused(
            f"attack.{attack} is untargeted, but threat.goal is {threat.goal.value}; choose an attack that supports "
            "targets (benchmark plugins attack), or threat.goal=untargeted"
        )
    if threat.goal is Goal.top5 and not can.top5:
        raise Refused(
            f"attack.{attack} changes only the first label, but threat.goal is top5; choose an attack that supports "
            "top5 (benchmark plugins attack), or threat.goal=untargeted"
        )
    if not threat.access.grants(can.access):
        raise Refused(
            f"attack.{attack} needs {can.access.value}, but threat.access is {threat.access.value}; choose an attack "
            f"that needs only {threat.access.value}, or threat.access={can.access.value}"
        )


def check_goal(threat: Threat, spec: DataSpec) -> None:
    """Refuse a goal that is not defined for the data.

    Args:
        spec: with the task, whose goals are checked.

    Raises:
        Refused: names the goals that are defined.
    """
    goals = spec.task.goals
    if (threat.goal.value not in goals) if goals is not None else threat.goal.about_objects:
        known = ", ".join(sorted(goals or {goal.value for goal in Goal if not goal.about_objects}))
        raise Refused(
            f"threat.goal is {threat.goal.value}, but the data are for {spec.task.name}; choose threat.goal={known}"
        )
    if threat.goal is Goal.mislabeling and spec.classes <= 2:
        raise Refused(
            "threat.goal is mislabeling, but the data have objects of one class alone; choose "
            "threat.goal=vanishing or threat.goal=fabrication"
        )
    if threat.goal is Goal.top5 and spec.classes <= COUNTED_LABELS:
        raise Refused(
            f"threat.goal is top5, but the data have {spec.classes} classes, all of them among the top five; choose "
            f"data of {COUNTED_LABELS + 1} classes at least, or threat.goal=untargeted"
        )


def _check_trigger(config: RunConfig) -> None:
    """Check that the system of an attack that applies a trigger has exactly one poison that targets a label."""
    if config.attack.supports.trigger and sum(poison.evokes() for poison in config.poisons) != 1:
        chosen = ", ".join(registry.name_of(p)[1] for p in config.poisons) or "none"
        raise Refused(
            f"attack.{registry.name_of(config.attack)[1]} applies the trigger of a poison, but the system's poisons "
            f"are {chosen}; choose one poison that targets a label, such as +poison=patch_trigger"
        )


def _check_answers(config: RunConfig) -> None:
    """Check that the attack needs no more access than the model gives, unless the attacker has a surrogate."""
    needed, told = config.attack.supports.access, config.model.access
    if config.threat.access is not Access.transfer and not told.grants(needed):
        raise Refused(
            f"attack.{registry.name_of(config.attack)[1]} needs {needed.value}, but "
            f"model.{registry.name_of(config.model)[1]} gives only {told.value}; choose an attack that needs only "
            f"{told.value}, or threat.access=transfer with the key of a surrogate"
        )


BY_GRADIENTS = (
    "build", "start", "at_epoch", "replays", "loss", "training_threat", "after_step", "averaging", "finish", "repair",
)  # fmt: skip
"""Stages of a defense that change training by gradients."""


TRAINING = frozenset(BY_GRADIENTS) - {"build", "finish", "repair"}
"""Stages that change how a network is trained, without architecture, own parts and repair after training."""


def _stages(defense: Defense) -> list[str]:
    """Gradient-training stages that a defense overrides."""
    return [stage for stage in BY_GRADIENTS if getattr(type(defense), stage) is not getattr(Defense, stage)]


def _check_alone(defenses: Sequence[Defense]) -> None:
    """Check that a defense that trains the networks alone is not combined with one that changes training in vain."""
    for alone in (defense for defense in defenses if defense.trains_alone):
        for other in defenses:
            changed = TRAINING.intersection(_stages(other))
            if other is not alone and changed:
                raise Refused(
                    f"defense.{registry.name_of(alone)[1]} trains its networks alone, and "
                    f"defense.{registry.name_of(other)[1]} would not affect that (its "
                    f"{', '.join(sorted(changed))}); leave one of them out"
                )


def _check_learner(config: RunConfig) -> None:
    """Check that a model without gradient training has no defense of such training and no initial weights."""
    if not config.model.learns():
        return
    model = registry.name_of(config.model)[1]
    for defense in config.defenses:
        stages = _stages(defense)
        if stages:
            raise Refused(
                f"model.{model} is not trained by gradients, and defense.{registry.name_of(defense)[1]} changes such "
                f"training (its {', '.join(stages)}); choose a defense that changes the data or acts at inference, or "
                "another model"
            )
    if config.system.init_from:
        raise Refused(f"model.{model} is not trained by gradients, so it cannot start from system.init_from")
