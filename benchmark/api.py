"""The contracts of plugins: one abstract class per kind, its declarations, and the data that travels between stages.

A plugin is a frozen dataclass (its fields are its configuration, and the Hydra schema) plus pure functions of tensors:
no I/O (datasets and trackers aside), no global randomness, no choice of device. Names mean the same everywhere:

==============  =====================================================================================
x, x_adv        (B, *S) float32 in [0, 1]: inputs, and what an attack proposes in their place
y               (B,) int64: the labels to leave, or under a targeted threat the labels to reach
logits          (B, K) float32: scores before the softmax
eps, step_size  in units of the [0, 1] input range
steps           iterations of a method; restarts: how often it starts again
rng             :class:`benchmark.sampling.SampleRandom`: the only source of randomness
==============  =====================================================================================
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from benchmark import hookimpl
from benchmark.data import Batch, DataSpec, Examples, Splits
from benchmark.errors import AttackFault, ConfigError, DataError, MissingPackage, Refused
from benchmark.tasks.detection import Detection
from benchmark.tasks.segmentation import Segmentation
from benchmark.tasks.task import CLASSIFICATION, Classification, DenseTask, Task
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat, parse_eps

if TYPE_CHECKING:  # what needs torch is looked up when it is asked for: reading configurations must not cost its import
    import torchmetrics
    from torch import Tensor, nn

    from benchmark.records.outcomes import NORMS, Outcomes
    from benchmark.sampling import SampleRandom, ambient, derive_seed, using
    from benchmark.system import PASS_ROWS, System, padded, padded_random, straight_through
    from benchmark.system.adapted import Adapted, AnswerKind, AnswerRule, InputRule
    from benchmark.system.networks import features, features_of, train_network
    from benchmark.system.references import OWNED
    from benchmark.system.target import RowLoss, Target
    from benchmark.threat.ball import Ball, distance, rows_norm

__all__ = [
    "API_VERSION",
    "EVERY_TASK",
    "NORMS",
    "OWNED",
    "PASS_ROWS",
    "Access",
    "Adapted",
    "AnswerKind",
    "AnswerRule",
    "Attack",
    "AttackFault",
    "Averaging",
    "Ball",
    "Batch",
    "Certifier",
    "Classification",
    "Component",
    "ConfigError",
    "DataError",
    "DataSpec",
    "Dataset",
    "Defense",
    "DenseTask",
    "Detection",
    "Examples",
    "Goal",
    "InputRule",
    "InstancePoison",
    "Loss",
    "Measurement",
    "Metric",
    "MissingPackage",
    "Model",
    "Norm",
    "Outcomes",
    "Poison",
    "PreparedAttack",
    "Refused",
    "Region",
    "RegionKind",
    "RowLoss",
    "SampleRandom",
    "Segmentation",
    "Splits",
    "Supports",
    "System",
    "Target",
    "Task",
    "Threat",
    "Tracker",
    "added",
    "ambient",
    "derive_seed",
    "distance",
    "features",
    "features_of",
    "hookimpl",
    "inner",
    "inner_list",
    "padded",
    "padded_random",
    "parse_eps",
    "rows_norm",
    "straight_through",
    "train_network",
    "using",
]

_LAZY = {
    "NORMS": "benchmark.records.outcomes",
    "Outcomes": "benchmark.records.outcomes",
    "SampleRandom": "benchmark.sampling",
    "ambient": "benchmark.sampling",
    "derive_seed": "benchmark.sampling",
    "using": "benchmark.sampling",
    "PASS_ROWS": "benchmark.system",
    "System": "benchmark.system",
    "padded": "benchmark.system",
    "padded_random": "benchmark.system",
    "straight_through": "benchmark.system",
    "Adapted": "benchmark.system.adapted",
    "AnswerKind": "benchmark.system.adapted",
    "AnswerRule": "benchmark.system.adapted",
    "InputRule": "benchmark.system.adapted",
    "features": "benchmark.system.networks",
    "features_of": "benchmark.system.networks",
    "train_network": "benchmark.system.networks",
    "OWNED": "benchmark.system.references",
    "RowLoss": "benchmark.system.target",
    "Target": "benchmark.system.target",
    "Ball": "benchmark.threat.ball",
    "distance": "benchmark.threat.ball",
    "rows_norm": "benchmark.threat.ball",
}
"""Names that are offered here and live elsewhere, each in a module that imports torch."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


EVERY_TASK = frozenset({CLASSIFICATION, Segmentation.name, Detection.name})
"""All tasks: for plugins that ask about answers by the shared losses and verdicts alone."""

API_VERSION = 1
"""The version of the contracts on this page."""


Loss = Callable[["nn.Module", Batch], "Tensor"]
"""A training loss: the mean over the batch, a scalar."""


def inner(default_name: str) -> Any:
    """A field that holds another plugin, by default the one of that name (or named variant in conf/).

    For example `attack: Attack = inner("pgd")`.

    On the command line the choice is `attack@defense.adversarial_training.attack=fgsm`, and its parameters are
    `defense.adversarial_training.attack.steps=7`.
    """
    return field(default=MISSING, metadata={"plugin": default_name})


def inner_list(*default_names: str) -> Any:
    """A field that holds a tuple of other plugins, by default those of these names (or named variants in conf/).

    For example `members: tuple[Attack, ...] = inner_list("fgsm", "pgd")`.

    On the command line it is a list of names and of names with settings: `attack.members=[fgsm,{pgd:{steps:10}}]`.
    """
    return field(default=MISSING, metadata={"plugins": default_names})


def added(default: Any) -> Any:
    """A field that a later version of a plugin brought; like any other, but left out of settings at its default.

    So what was trained before there was such a field keeps its key.
    """
    return field(default=default, metadata={"added": True})


# --- plugins ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Component(ABC):  # noqa: B024 - each kind says what is abstract
    """The root of all plugin kinds.

    api_version: the version of the contracts that the plugin was written for.
    tasks: names of the tasks that it can be part of, see :mod:`benchmark.tasks`; a dataset poses exactly one.
    """

    api_version: ClassVar[int] = API_VERSION
    tasks: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION})

    @classmethod
    def offers(cls) -> tuple[str, ...]:
        """Choices by name of a plugin that is a bridge to another package, a line each; `benchmark plugins`.

        Such as the attacks of a toolkit, with what each can do. Empty for other plugins.
        """
        return ()


@dataclass(frozen=True)
class Supports:
    """The abilities of an attack or a certifier; `benchmark.config.check` refuses the rest before anything is loaded.

    norms: the norms it works in. access: the least access it needs.
    targeted: whether it can reach a given label. minimal: whether it looks for the smallest perturbation (then it may
    leave the eps-ball, and its distances make a whole curve). randomized: whether it draws from `rng`.
    bounded: whether it respects the threat's ball; a corruption that answers to no norm does not, and its candidates
    are judged by the box and the region alone.
    top5: whether it can drive the label out of the five best answers (:class:`Target` shows it the scores ranked).
    trigger: whether it shows the trigger of the system's poison (`target.triggered`); then the poison's label is what
    counts, over the examples that the poison is about.
    """

    norms: frozenset[Norm] = frozenset(Norm)
    access: Access = Access.gradients
    targeted: bool = False
    minimal: bool = False
    randomized: bool = False
    bounded: bool = True
    top5: bool = False
    trigger: bool = False


@dataclass(frozen=True)
class Attack(Component):
    """Evasion at test time."""

    supports: ClassVar[Supports]

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Called when the data is known, and before anything is trained: what `supports` cannot say, such as colours.

        Args:
            spec: shape and classes of the data. threat: norm, radius and the rest of the attacker's limits.

        Raises:
            Refused: with what the attack needs, in one sentence, where it can do nothing with such examples.
        """

    @abstractmethod
    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Propose inputs that the system gets wrong; whether they count is decided by the core.

        Args:
            target: the system, as the threat lets an attacker see it; its rows are the rows of `x`.
            x: (B, *S) float32 in [0, 1]; must not be changed.
            y: (B,) int64, the labels to leave or, if `threat.targeted`, to reach.
            threat: the attacker's limits; `threat.around(x, rng)` is the set of allowed inputs.
            rng: randomness per example.

        Returns:
            (B, *S) in the dtype of `x`: inside the threat, whatever the system does. Rows the attack gave up on may
            be anything allowed, for example the clean input.
        """


@dataclass(frozen=True)
class PreparedAttack(Attack):
    """Evasion by something that is made beforehand, once per cell, and is the same for every example attacked.

    Such as a universal perturbation. `perturb` finds what was made in `target.prepared`.

    examples: of the training split at most, as many of each label as there are: what it is made from.
    """

    examples: int = 500

    @abstractmethod
    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """Make what :meth:`perturb` needs, from examples that the attacker has.

        Args:
            target: the system, as the threat lets an attacker see it; its rows are the rows of `x`. The threat's query
                budget holds for each of these examples, as for those that are attacked.
            x: (N, *S) float32 in [0, 1]; must not be changed.
            y: (N,) int64, the true labels, whatever the goal: under a targeted threat any label may be one to reach.
            threat: the attacker's limits. rng: randomness per example.

        Returns:
            Tensors by name. They are stored, and given to all workers.
        """


@dataclass(frozen=True)
class Averaging:
    """A running average of the weights, deployed in place of the last ones.

    decay: of an exponential average; None weighs all alike. start: share of the epochs after which it begins.
    each_epoch: whether weights enter it at the end of an epoch, and not after each step.
    restate: whether the running statistics of normalisation layers are taken anew, with the averaged weights on clean
    training inputs; otherwise they are averaged like the weights.
    """

    decay: float | None = None
    start: float = 0.0
    each_epoch: bool = False
    restate: bool = False


@dataclass(frozen=True)
class Defense(Component):
    """Any subset of the stages below; the defaults change nothing.

    randomized: whether predictions of the protected model are random (through `benchmark.sampling.ambient`).
    differentiable: whether gradients of the protected model are meaningful (a declared surrogate counts).
    detects: whether `suspicion` is defined.
    shift_invariant: whether `suspicion` ignores a constant added to all logits, as probabilities do.
    optimizes: whether a pass of the protected model solves an optimisation problem for its input.
    neutral: settings at which the defense changes nothing, bit for bit; empty where there are none.
    trains_alone: whether it trains the networks by itself in `finish`, so that no other defense can change how.
    """

    trains_alone: ClassVar[bool] = False
    randomized: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    detects: ClassVar[bool] = False
    shift_invariant: ClassVar[bool] = False
    optimizes: ClassVar[bool] = False
    neutral: ClassVar[Mapping[str, Any]] = {}

    @property
    def votes(self) -> int:
        """Number of fresh draws whose majority is the answer of a randomised system; where it can be set, a field."""
        return 1

    def check(self, spec: DataSpec) -> None:
        """Called when the data is known, and before anything is trained.

        Args:
            spec: shape and classes of the data.

        Raises:
            Refused: with what the defense needs, in one sentence, where it can do nothing with such examples.
        """

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """The training examples to use instead: augmented, relabelled, filtered."""
        return train

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """The architecture to use instead; `build(self, model)` will do for a defense that needs no `spec`."""
        return model

    def start(
        self, model: nn.Module, train: Examples, spec: DataSpec, fit: Callable[[nn.Module, Examples, Loss], None]
    ) -> Defense:
        """Before training: the defense to train with, with whatever it has trained for that, such as a teacher.

        Called again where training was interrupted, and must then give the same.

        Args:
            model: with its initial weights; not to be changed. train: as prepared by the whole stack.
            fit: trains a module by the run's recipe, in place.
        """
        return self

    def at_epoch(self, epoch: int, epochs: int) -> Defense:
        """The defense as it is in one epoch of `epochs`, the first being 0: for schedules and what lasts an epoch."""
        return self

    def replays(self) -> int:
        """Steps taken in a row on each batch; an epoch then takes fewer batches, and no more steps."""
        return 1

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The training loss, a scalar; `inner` is the loss of the stack below."""
        return inner(model, batch)

    def training_threat(self) -> Threat | None:
        """The threat that training defends against, under which the core then selects between epochs."""
        return None

    def after_step(self, model: nn.Module) -> None:
        """Called after each optimiser step, under no_grad: may change the weights in place (projections)."""

    def averaging(self) -> Averaging | None:
        """The average of the weights that is deployed, None for the last ones; of a stack the last one that has any."""
        return None

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Train further after the run's own training, in place; `fit` trains a module by the run's recipe.

        Whatever needs weights of its own (a purifier, a detector's network) is created in `build`, so that a cached
        system can be rebuilt from its weights.
        """

    def repair(self, model: nn.Module, clean: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """After every `finish`: mend the model in place by examples that are known to be clean: the select split.

        For defenses that ask for a few clean examples; poison is in the training split alone. `fit` as in `finish`.
        """

    def protect(self, model: nn.Module) -> nn.Module:
        """At inference: the module that is deployed, from inputs in [0, 1] to logits."""
        return model

    def passes(self, below: int) -> int:
        """Passes that one pass of the protected module counts as, where one of the module below counts as `below`.

        An ensemble of n members counts n * below; a purifier that takes n steps of a network of its own, below + n.
        """
        return below

    def smoother(self) -> tuple[Defense, ...]:
        """Smoother or weaker settings of the same stage, with the same architecture and weights.

        An attacker who knows the defense finds adversarial examples on these, where gradients tell more, and transfers
        them to the deployed setting.
        """
        return ()

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """(B,) float32: higher is more suspicious. The core calibrates the threshold on clean examples."""
        raise NotImplementedError(f"{type(self).__name__} declares detects=True and defines no suspicion()")

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor | None:
        """Differentiable stand-in for a suspicion that has no useful gradient of its own, else None, (B,) float32.

        An attacker who knows the detector follows its gradient; the verdict is made by `suspicion`.
        """
        return None

    def fitted_on(self) -> tuple[Attack, ...]:
        """Attacks whose examples a detector was fitted on; empty if it saw clean examples alone."""
        return ()


@dataclass(frozen=True)
class Poison(Component):
    """Changes the training examples before anything is trained on them."""

    rate: float = 0.1

    @abstractmethod
    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """The poisoned training examples, and (M,) int64 ids of those that were added or changed.

        The core checks that M is `rate` times the number of clean training examples, rounded down.
        """

    def trigger(self, x: Tensor) -> Tensor | None:
        """Inputs with the backdoor's trigger, (B, *S); None where there is none."""
        return None

    def aim(self, y: Tensor) -> Tensor:
        """Label that the poison is to evoke for a test example of each label `y` (B,), of shape (B,) int64.

        -1 where the poison is not about such an example, so that it does not count: by default nowhere.
        """
        return y.new_full(y.shape, -1)

    def evokes(self) -> bool:
        """Tell a poison with a label to evoke in some test example from one without."""
        import torch

        return bool((self.aim(torch.arange(LABELS)) >= 0).any())


LABELS = 1024
"""Number of labels that a poison is asked about to know if it evokes one."""


@dataclass(frozen=True)
class InstancePoison(Poison):
    """A poison that is crafted for given test inputs, which are not changed at test time.

    target: the label that they are to get. victims: how many test inputs; the core takes the first of other labels.
    """

    target: int = 0
    victims: int = 1

    @abstractmethod
    def corrupt_for(
        self, train: Examples, victims: Examples, spec: DataSpec, rng: SampleRandom
    ) -> tuple[Examples, Tensor]:
        """As :meth:`Poison.corrupt`, with the test inputs and their true labels as the attacker knows them."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Refuse: without victims there is nothing to craft.

        Raises:
            ConfigError: always; the core calls :meth:`corrupt_for`.
        """
        raise ConfigError(f"{type(self).__name__} is crafted for given test inputs; call corrupt_for with them")

    def aim(self, y: Tensor) -> Tensor:
        """(B,) int64: `target` for examples of other labels, else -1; the core counts the victims alone."""
        return y.new_full(y.shape, self.target).where(y != self.target, -1)


@dataclass(frozen=True)
class Dataset(Component):
    """A source of examples."""

    @abstractmethod
    def revision(self, root: Path) -> str:
        """An identifier of the content, found without loading it: a pinned checksum, or a hash of the files."""

    @abstractmethod
    def load(self, root: Path, *, offline: bool) -> Splits:
        """Read (and where allowed, download into `root`) the examples.

        Raises:
            DataError: naming the URL, the expected file and its folder where a file is missing or wrong.
        """

    def files(self, root: Path) -> tuple[Path, ...]:
        """The user's own files and folders whose change must invalidate a cached result (pinned downloads need none).

        In keys and records their content stands for a setting that names one of them, so where they lie is no part of
        a result.
        """
        return ()


@dataclass(frozen=True)
class Model(Component):
    """An architecture.

    reviewed: whether its code belongs to an installed plugin, and not to a file or an object of the user's own.
    access: the most that its systems can tell an attacker: scores or labels where there are no gradients. An attack
    that needs more is refused, unless it transfers from a surrogate.
    """

    reviewed: ClassVar[bool] = True
    access: ClassVar[Access] = Access.gradients

    @abstractmethod
    def build(self, spec: DataSpec) -> nn.Module:
        """A module from (B, *S) in [0, 1] to logits (B, K), with the normalisation inside.

        Initial weights come from torch's generator, which the core has seeded.
        """

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """Weights that make training unnecessary, or None to train from the initial ones."""
        return None

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Fit `module`, which :meth:`build` made, in place and without gradients: for models that have none.

        A model that defines it is not trained by the recipe. What it learns must fit into the state of the module, as
        built: it is stored and read back like any weights. train: with labels only, none of them soft. seed: below
        2**31, for whatever in it is random; nothing is drawn from global generators.
        """
        raise NotImplementedError(f"{type(self).__name__} is trained by gradients and defines no learn()")

    @classmethod
    def learns(cls) -> bool:
        """True for a model that fits itself and is not trained by gradients."""
        return cls.learn is not Model.learn

    def files(self) -> tuple[Path, ...]:
        """Files and folders of the user's own whose change must invalidate a cached result; see `Dataset.files`."""
        return ()

    def unreviewed(self) -> str:
        """Code that a model which is not `reviewed` runs, in words that its content alone decides."""
        return "code of the user's own"


@dataclass(frozen=True)
class Certifier(Component):
    """Proves a lower bound."""

    supports: ClassVar[Supports]

    @abstractmethod
    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """(B,) float32: no point within this distance is misclassified; 0 where nothing can be said."""

    def certify_rows(self, system: System, x: Tensor, y: Tensor, *, rng: SampleRandom) -> Tensor | None:
        """Training rows that could be added or removed without changing the right answer, (B,) int64.

        None for certifiers that prove nothing about training rows.
        """
        return None


@dataclass  # not frozen: torchmetrics rebuilds what a metric computes, and refuses frozen dataclasses
class Measurement:
    """One measured number. value, low, high: None where nothing can be measured (never NaN)."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    higher_is_better: bool | None


@dataclass(frozen=True)
class Metric(Component):
    """A number over verified outcomes."""

    @abstractmethod
    def build(self) -> torchmetrics.Metric:
        """A torchmetrics metric: `update(outcomes)`, and `compute()` gives a list of :class:`Measurement`."""

    def measure(self, outcomes: Outcomes) -> list[Measurement]:
        """The measurements over all outcomes of a cell."""
        metric: Any = self.build()
        metric.distributed_available_fn = lambda: False  # the outcomes of all processes are joined already
        metric.update(outcomes)
        return list(metric.compute())


@dataclass(frozen=True)
class Tracker(Component):
    """Observer of a run, through the hooks of :mod:`benchmark.hooks.hookspecs`; one that fails never loses a record.

    environment: beginnings of the names of variables of the environment that it, or its library, may set.
    """

    environment: ClassVar[tuple[str, ...]] = ()
