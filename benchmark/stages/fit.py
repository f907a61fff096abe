"""fit: train a model with a stack of defenses into a system, once per content hash."""

from __future__ import annotations

import inspect
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Defense
from benchmark.config.schema import Trainer
from benchmark.config.system_spec import WEIGHTS, SystemSpec
from benchmark.data import DataSpec
from benchmark.errors import Refused, StoreError
from benchmark.hooks.events import TrainingPlan
from benchmark.hooks.observers import Observers
from benchmark.records.card import Card
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256, set_aside, write_atomic
from benchmark.records.poison import POISON
from benchmark.records.provenance import provenance
from benchmark.records.store import Store
from benchmark.sampling import derive_seed
from benchmark.stages import world
from benchmark.stages.calibrate import DETECTOR_FALSE_POSITIVES, calibrate, calibrated, too_few
from benchmark.stages.clean import check_stated, correct
from benchmark.stages.devices import device_of
from benchmark.stages.first_pass import check_answers
from benchmark.stages.learn import Further, Weights, trains_further
from benchmark.stages.load import Loaded
from benchmark.stages.training_data import TrainingData, training_examples
from benchmark.system import Detector, System
from benchmark.system.weights import load_weights, save_weights

__all__ = ["DETECTOR_FALSE_POSITIVES", "assemble", "build_model", "built", "calibrated", "fit"]


def fit(
    parts: SystemSpec,
    loaded: Loaded,
    store: Store,
    trainer: Trainer,
    observers: Observers,
    *,
    key: str,
    data: Path,
    sweep: str = "",
    overrides: Sequence[str] = (),
) -> tuple[System, Card]:
    """Take a trained system from the store, or train it in one process while the others wait.

    Args:
        key: the system's, under which it is stored. data: the folder of datasets. sweep: the id of the sweep.
        overrides: for the card's provenance.
    """
    card = _whole(store, key)
    if card is None and world.is_follower(trainer):
        _help_to_train(parts, loaded, store, trainer, key)
        card = store.card(key)
    elif card is None:
        with store.lock(f"system-{key}"):
            card = _whole(store, key, mend=True)
            if card is None:
                card = _Training(parts, loaded, store, trainer, observers, key, data, sweep, tuple(overrides)).run()
        world.barrier()
    elif store.work(key).is_dir() and not world.is_follower(trainer):
        with store.lock(f"system-{key}"):  # left by a process that died once the system was in its place
            shutil.rmtree(store.work(key), ignore_errors=True)
    if card is None:
        raise StoreError(
            f"the leading process has not stored system {key} in {store.root}; check that all nodes share this folder"
        )
    model = build_model(parts, loaded.splits.spec)
    load_weights(model, store.system(key) / WEIGHTS)
    return assemble(parts, loaded.splits.spec, model, card.thresholds), card


def _whole(store: Store, key: str, *, mend: bool = False) -> Card | None:
    """Card of a trained system whose files match it; None if there is none.

    Args:
        mend: set a damaged system aside, so that it is trained again.
    """
    folder = store.system(key)
    if not folder.is_dir():
        return None
    card = store.card(key)
    wrong = "has no readable card" if card is None else store.differs(card)
    if card is not None and not wrong:
        return card
    if mend:
        set_aside(folder, wrong)
    return None


def build_model(parts: SystemSpec, spec: DataSpec, given: dict[str, Tensor] | None = None) -> nn.Module:
    """Architecture with its initial weights, or the `given` ones, after the defenses' changes to it."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(parts.seed, "init"))
        with registry.calling(parts.model, generators=False):
            model = parts.model.build(spec)
        if given is not None:
            model.load_state_dict(given)
        model = built(model, spec, parts.defenses)
        if any(
            isinstance(value, (nn.UninitializedParameter, nn.UninitializedBuffer))
            for value in model.state_dict().values()
        ):
            with torch.no_grad():  # lazy layers take their shapes from a first pass
                model.eval()(torch.zeros(1, *spec.shape))
            model.train()
        return model


def built(model: nn.Module, spec: DataSpec, defenses: Sequence[Defense]) -> nn.Module:
    """Architecture after a stack of defenses; a `build` with the model as its only argument gets no spec."""
    for defense in defenses:
        change: Callable[..., nn.Module] = defense.build
        with registry.calling(defense, generators=False):
            model = change(model, spec) if len(inspect.signature(change).parameters) > 1 else change(model)
    return model


def assemble(parts: SystemSpec, spec: DataSpec, model: nn.Module, thresholds: Mapping[str, Sequence[float]]) -> System:
    """System around trained weights; `thresholds` are those of its detectors, as on the card."""
    detectors = [
        Detector(defense, *thresholds[registry.name_of(defense)[1]]) for defense in parts.defenses if defense.detects
    ]
    system = System(model, spec, parts.defenses, detectors)
    system.owner = " with ".join(registry.owner_of(type(part)).named for part in (parts.model, *parts.defenses))
    system.unreviewed = "" if parts.model.reviewed else parts.model.unreviewed()
    return system


@dataclass(frozen=True)
class _Training:
    """Training of one system by the leading process, from the plan to the card in the store."""

    parts: SystemSpec
    loaded: Loaded
    store: Store
    trainer: Trainer
    observers: Observers
    key: str
    data: Path
    sweep: str
    overrides: tuple[str, ...]

    def run(self) -> Card:
        """Train, and notify the observers."""
        parts, given = self.parts, self.parts.model.pretrained(self.loaded.splits.spec)
        untrained = parts.model.learns() or (given is not None and not trains_further(parts))
        epochs = 0 if untrained else parts.training.epochs
        folder = self.store.system(self.key)
        plan = TrainingPlan(self.key, parts.name, parts.settings(), epochs, self.sweep, folder)
        self.observers.tell("benchmark_training_started", training=plan)
        card = None
        try:
            card = self._trained(given, plan)
        except Exception:  # it failed, and was not interrupted: what it has so far stays, the note that it goes on not
            (self.store.work(self.key) / "plan.json").unlink(missing_ok=True)
            raise
        finally:
            self.observers.tell("benchmark_training_finished", training=plan, card=card)
        return card

    def _trained(self, given: dict[str, Tensor] | None, plan: TrainingPlan) -> Card:
        """Train, calibrate, and store weights and card."""
        begun = time.perf_counter()
        parts, splits = self.parts, self.loaded.splits
        folder = self.store.scratch(plan.key, {"kind": "training", "key": plan.key, "name": plan.name})
        final = folder / "final"
        final.mkdir(exist_ok=True)
        data = training_examples(parts, splits, final / POISON)
        train = data.train
        model = build_model(parts, splits.spec)
        if not len(train) and plan.epochs:
            raise Refused(
                f"dataset.{registry.name_of(parts.dataset)[1]} has no training examples, but {parts.name} needs "
                "training; add some, or choose a model with its weights (model.weights, or training.epochs=0)"
            )
        if not parts.model.learns():
            check_answers(parts, splits.spec, model, splits.select if len(splits.select) else splits.test,
                           plan.epochs)  # fmt: skip
        if given is not None:
            model = build_model(parts, splits.spec, given)
        if given is not None or not plan.epochs:
            check_stated(parts, splits.spec, given, splits.test, device_of(self.trainer))

        def tell(values: dict[str, float]) -> None:
            self.observers.tell("benchmark_epoch", training=plan, epoch=int(values["epoch"]), values=values)

        task = Weights(parts, splits.spec, self.store, self.trainer, folder)
        history = task.fit(model, given, train, splits.select, tell)
        for place, defense in enumerate(parts.defenses):
            if type(defense).finish is not Defense.finish:
                further = Further(parts, splits.spec, self.trainer, folder / f"finish-{place}")
                with registry.calling(defense, generators=False):
                    defense.finish(model, train, further)
        for place, defense in enumerate(parts.defenses):
            if type(defense).repair is not Defense.repair:
                further = Further(parts, splits.spec, self.trainer, folder / f"repair-{place}")
                with registry.calling(defense, generators=False):
                    defense.repair(model, splits.select, further)
        model.eval()
        save_weights(model, final / WEIGHTS)
        thresholds = calibrate(parts, splits.spec, model, splits.select)
        system, device = assemble(parts, splits.spec, model, thresholds), device_of(self.trainer)
        right = {name: correct(system, part, parts.seed, device) for name, part in
                 (("select", splits.select), ("test", splits.test))}  # fmt: skip
        card = self._card(model, data, history, thresholds, right, final / WEIGHTS, begun).sealed()
        write_atomic(final / "card.json", to_text(card))
        self.store.put(final, self.store.system(plan.key))
        shutil.rmtree(folder, ignore_errors=True)
        return card

    def _card(
        self,
        model: nn.Module,
        data: TrainingData,
        history: list[dict[str, float]],
        thresholds: dict[str, list[float]],
        right: dict[str, int],
        weights: Path,
        begun: float,
    ) -> Card:
        """Card of the trained system, built once everything is measured."""
        selected = max(history, key=lambda h: (h["score"], h["epoch"]), default=None)
        identity = self.parts.identity(self.data, self.store.root)
        few = too_few(len(self.loaded.splits.select)) if thresholds else None
        return Card(
            key=self.key,
            system=self.parts.info(self.key, identity),
            seed=self.parts.seed,
            init_from=identity["init_from"] or None,
            dataset_revision=self.loaded.revision,
            splits=self.loaded.infos,
            splits_disjoint=self.loaded.disjoint,
            train_examples=len(data.train),
            poisoned_examples=0 if data.poisoned is None else len(data.poisoned.ids),
            poison_sha256="" if data.poisoned is None else file_sha256(weights.with_name(POISON)),
            rows_lost=data.lost,
            epochs_run=len(history),
            selected_epoch=None if selected is None else int(selected["epoch"]),
            robust_selection=None if selected is None else selected.get("select_robust_accuracy"),
            select_correct=right["select"],
            select_total=len(self.loaded.splits.select),
            test_correct=right["test"],
            test_total=len(self.loaded.splits.test),
            thresholds=thresholds,
            fitted_on=self.parts.fitted_on(),
            warnings=[warning for warning in (*_of_training(model, history, self.trainer), few) if warning],
            parameters=sum(p.numel() for p in model.parameters()),
            weights_sha256=file_sha256(weights),
            history=history,
            seconds=time.perf_counter() - begun,
            provenance=provenance(overrides=list(self.overrides), inputs=self.parts.places(self.data, self.store.root)),
        )


def _of_training(model: nn.Module, history: list[dict[str, float]], trainer: Trainer) -> tuple[str | None, ...]:
    """Warnings about a training that overfitted catastrophically, or that depends on the number of processes."""
    if not history:
        return ()
    from benchmark.stages.training import collapse_warning, shares_warning  # which imports Lightning

    return collapse_warning(history), shares_warning(model, trainer.devices * trainer.nodes)


def _help_to_train(parts: SystemSpec, loaded: Loaded, store: Store, trainer: Trainer, key: str) -> None:
    """Compute this process's part of every batch, in a process that is not the leader."""
    splits = loaded.splits
    train = training_examples(parts, splits).train
    task = Weights(parts, splits.spec, store, trainer, store.work(key))
    given = parts.model.pretrained(splits.spec)
    task.fit(build_model(parts, splits.spec, given), given, train, splits.select, lambda _: None)
    world.barrier()
