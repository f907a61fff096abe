"""Weights of a system: given, learnt by the model itself, or trained by the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Defense, Loss
from benchmark.config.schema import Trainer
from benchmark.config.system_spec import SystemSpec, initial_weights
from benchmark.data import DataSpec, Examples
from benchmark.errors import DataError, Refused
from benchmark.records.store import Store
from benchmark.sampling import derive_seed
from benchmark.stages import world
from benchmark.system.weights import load_weights

__all__ = ["Further", "Weights", "trains_further"]


@dataclass(frozen=True)
class Weights:
    """Source of a system's weights: given, learnt by the model itself, or trained in `folder` by the recipe."""

    parts: SystemSpec
    spec: DataSpec
    store: Store
    trainer: Trainer
    folder: Path

    def fit(
        self,
        model: nn.Module,
        given: dict[str, Tensor] | None,
        train: Examples,
        select: Examples,
        tell: Callable[[dict[str, float]], None],
    ) -> list[dict[str, float]]:
        """Train, unless the given weights need none; returns the epochs, each also passed to `tell` as it ends."""
        parts = self.parts
        if parts.model.learns():
            if train.soft is not None:
                raise Refused(
                    f"model.{registry.name_of(parts.model)[1]} learns from hard labels, but a defense made them soft; "
                    "leave that defense out, or choose a model trained by gradients"
                )
            with registry.calling(parts.model, generators=False):
                parts.model.learn(model, train, self.spec, derive_seed(parts.seed, "learn") % 2**31)
            return []
        if parts.init_from and given is None:
            _begin_with(model, parts.init_from, self.store.root)
        if given is not None and not trains_further(parts):
            return []
        from benchmark.stages import training  # which imports Lightning
        from benchmark.stages.fitting import Fitting

        defenses = self._started(model, train)
        threats = [t for t in (d.training_threat() for d in parts.defenses) if t is not None]
        fitting = Fitting(
            model,
            self.spec,
            train,
            select,
            parts.training,
            defenses,
            threats[-1] if threats else None,
            parts.seed,
            self.folder,
        )
        with registry.calling(parts.model, *parts.defenses, parts.training.selection_attack, generators=False):
            return training.train(fitting, self.trainer, tell)

    def _started(self, model: nn.Module, train: Examples) -> tuple[Defense, ...]:
        """Defenses to train with, after each has trained what it needs; every process does so for itself."""
        started, parts = [], self.parts
        for place, defense in enumerate(parts.defenses):
            folder = self.folder / f"start-{place}{world.suffix(self.trainer)}"
            with torch.random.fork_rng():
                torch.manual_seed(derive_seed(parts.seed, "start", place))
                further = Further(parts, self.spec, self.trainer, folder)
                with registry.calling(defense, generators=False):
                    started.append(defense.start(model, train, self.spec, further))
        return tuple(started)


def trains_further(parts: SystemSpec) -> bool:
    """True if any defense takes part in training."""
    return any(
        any(getattr(type(defense), stage) is not getattr(Defense, stage) for stage in ("loss", "prepare", "averaging"))
        for defense in parts.defenses
    )


class Further:
    """Trains a module in place by the run's recipe, for defenses that train before or after the main training."""

    def __init__(self, parts: SystemSpec, spec: DataSpec, trainer: Trainer, folder: Path) -> None:
        self.parts, self.spec, self.trainer, self.folder, self.times = parts, spec, trainer, folder, 0

    def __call__(self, module: nn.Module, examples: Examples, loss: Loss) -> None:
        """Train `module` on `examples` under `loss`, and keep the last epoch."""
        from benchmark.stages import training
        from benchmark.stages.fitting import Fitting

        self.times += 1
        module.train()
        seed = derive_seed(self.parts.seed, self.folder.name.partition(".")[0], self.times)
        fitting = Fitting(
            module,
            self.spec,
            examples,
            None,
            self.parts.training,
            (),
            None,
            seed,
            self.folder / str(self.times),
            loss,
        )
        alone = dataclasses.replace(self.trainer, devices=1, nodes=1, strategy="auto")
        training.train(fitting, alone, lambda _: None)


def _begin_with(model: nn.Module, source: str, root: Path) -> None:
    """Load the weights of `system.init_from`.

    Raises:
        DataError: if there are none, or they do not fit this model.
    """
    from safetensors import SafetensorError

    path = initial_weights(source, root)
    try:
        load_weights(model, path)
    except (SafetensorError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise DataError(
            f"system.init_from is {source!r}, and {path} does not contain weights of this model ({why[:300]}); give "
            "weights of the same architecture, in a .safetensors file"
        ) from error
