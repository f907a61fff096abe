"""fit: a model and a stack of defenses become a system, trained once and kept under its content hash."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Defense, Loss
from benchmark.config.cell import RunConfig
from benchmark.config.describe import system_info
from benchmark.data import DataSpec, Examples
from benchmark.errors import DataError, Refused, StoreError
from benchmark.hooks.events import TrainingPlan
from benchmark.hooks.observers import Observers
from benchmark.records.provenance import provenance
from benchmark.records.record import Card, file_sha256, to_text, write_atomic
from benchmark.records.store import Store
from benchmark.sampling import SampleRandom, derive_seed, using
from benchmark.stages import world
from benchmark.stages.devices import device_of
from benchmark.stages.load import Loaded
from benchmark.stages.poison import poison
from benchmark.system import Detector, System
from benchmark.system.weights import load_weights, save_weights

__all__ = ["DETECTOR_FALSE_POSITIVES", "assemble", "build", "fit", "initial_weights"]

WEIGHTS = "weights.safetensors"
DETECTOR_FALSE_POSITIVES = 0.05
"""The share of clean select examples that a calibrated detector refuses."""


def fit(config: RunConfig, loaded: Loaded, store: Store, observers: Observers, sweep: str = "") -> tuple[System, Card]:
    """The trained system of a configuration: from the store, or trained now, by one worker while the others wait."""
    key = config.system_key()
    card = store.card(key)
    if card is None and world.follows(config.trainer):
        _help_to_train(config, loaded, store)
        card = store.card(key)
    elif card is None:
        with store.lock(f"system-{key}"):
            card = store.card(key) or _train(config, loaded, store, observers, sweep)
        world.wait()
    if card is None:
        raise StoreError(f"the leading process has not put system {key} into {store.root}; do all nodes share it?")
    model = build(config, loaded.splits.spec)
    path = store.system(key) / WEIGHTS
    if file_sha256(path) != card.weights_sha256:
        raise StoreError(f"{path} is not the file that its card describes; delete {path.parent} to train it again")
    load_weights(model, path)
    return assemble(config, loaded.splits.spec, model, card), card


def build(config: RunConfig, spec: DataSpec) -> nn.Module:
    """The architecture with its initial weights, after the defenses' changes to it."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, "init"))
        model = config.model.build(spec)
        for defense in config.defenses:
            model = defense.build(model)
    return model


def assemble(config: RunConfig, spec: DataSpec, model: nn.Module, card: Card) -> System:
    """The system around trained weights, with the thresholds that its card names."""
    detectors = [
        Detector(defense, *card.thresholds[registry.name_of(defense)[1]])
        for defense in config.defenses
        if defense.detects
    ]
    return System(model, spec, config.defenses, detectors)


def _train(config: RunConfig, loaded: Loaded, store: Store, observers: Observers, sweep: str) -> Card:
    key = config.system_key()
    given = config.model.pretrained(loaded.splits.spec)
    untrained = config.model.learns() or (given is not None and not _trains_further(config))
    epochs = 0 if untrained else config.training.epochs
    plan = TrainingPlan(key, config.system_name, config.system_settings(), epochs, sweep, store.system(key))
    observers.tell("benchmark_training_started", training=plan)
    card = None
    try:
        card = _trained(config, loaded, given, store, observers, plan)
    except Exception:  # it failed, and was not interrupted: what it has so far stays, the note that it goes on does not
        (store.work(key) / "plan.json").unlink(missing_ok=True)
        raise
    finally:
        observers.tell("benchmark_training_finished", training=plan, card=card)
    return card


def _trained(
    config: RunConfig,
    loaded: Loaded,
    given: dict[str, Tensor] | None,
    store: Store,
    observers: Observers,
    plan: TrainingPlan,
) -> Card:
    """Train, calibrate, and put weights and card into the store."""
    from benchmark.stages import training

    begun = time.perf_counter()
    spec, splits = loaded.splits.spec, loaded.splits
    folder = store.scratch(plan.key, {"kind": "training", "key": plan.key, "name": plan.name})
    train, touched = _training_examples(config, loaded)
    model = build(config, spec)
    if not config.model.learns():
        _check_answers(config, spec, model, splits.select)

    def tell(values: dict[str, float]) -> None:
        observers.tell("benchmark_epoch", training=plan, epoch=int(values["epoch"]), values=values)

    history = _fit_weights(config, spec, model, given, train, splits.select, folder, tell)
    for place, defense in enumerate(config.defenses):
        if type(defense).finish is not Defense.finish:
            defense.finish(model, train, _Further(config, spec, folder / f"finish-{place}"))
    model.eval()
    final = folder / "final"
    final.mkdir(exist_ok=True)
    save_weights(model, final / WEIGHTS)
    thresholds = _calibrate(config, spec, model, splits.select)
    selected = max(history, key=lambda h: (h["score"], h["epoch"]), default=None)
    collapse = training.collapse_warning(history)
    card = Card(
        key=plan.key,
        system=system_info(config, plan.key),
        seed=config.seed,
        init_from=config.system.init_from or None,
        dataset_revision=loaded.revision,
        splits=loaded.infos,
        splits_disjoint=loaded.disjoint,
        train_examples=len(train),
        poisoned_examples=len(touched),
        epochs_run=len(history),
        selected_epoch=None if selected is None else int(selected["epoch"]),
        robust_selection=None if selected is None else selected.get("select_robust_accuracy"),
        select_correct=0,
        select_total=len(splits.select),
        test_correct=0,
        test_total=len(splits.test),
        thresholds=thresholds,
        warnings=[collapse] if collapse else [],
        parameters=sum(p.numel() for p in model.parameters()),
        weights_sha256=file_sha256(final / WEIGHTS),
        history=history,
        seconds=0.0,
    )
    system, device = assemble(config, spec, model, card), device_of(config.trainer)
    card = card.model_copy(
        update={
            "select_correct": correct(system, splits.select, config.seed, device),
            "test_correct": correct(system, splits.test, config.seed, device),
            "seconds": time.perf_counter() - begun,
            "provenance": provenance(overrides=list(config.overrides)),
        }
    )
    write_atomic(final / "card.json", to_text(card))
    store.put(final, store.system(plan.key))
    shutil.rmtree(folder, ignore_errors=True)
    return card


def _check_answers(config: RunConfig, spec: DataSpec, model: nn.Module, examples: Examples) -> None:
    """That the architecture takes what the dataset gives, and answers with a score per class: one pass of a copy.

    Raises:
        DataError: with both shapes.
    """
    names = [f"{kind}.{name}" for kind, name in (registry.name_of(config.model), registry.name_of(config.dataset))]
    x = examples.take(torch.arange(min(2, len(examples)))).x()
    rng = SampleRandom(derive_seed(config.seed, "shapes"), examples.ids[: len(x)])
    try:
        with torch.no_grad(), torch.random.fork_rng(), using(rng):
            logits = copy.deepcopy(model).eval()(x)
    except RuntimeError as error:
        raise DataError(
            f"{names[0]} cannot take the examples of {names[1]}, which have the shape {spec.shape}: {error}"
        ) from error
    if tuple(logits.shape) != (len(x), spec.classes):
        raise DataError(
            f"{names[0]} answers {len(x)} examples of {names[1]} with the shape {tuple(logits.shape)}; the dataset has "
            f"{spec.classes} classes, so expected {(len(x), spec.classes)}"
        )


def _training_examples(config: RunConfig, loaded: Loaded) -> tuple[Examples, Tensor]:
    """What is trained on, after poisons and defenses, and the ids that poisons touched."""
    train, touched = poison(config, loaded)
    for place, defense in enumerate(config.defenses):
        rng = SampleRandom(derive_seed(config.seed, "prepare", place), train.ids)
        train = defense.prepare(train, loaded.splits.spec, rng)
    return train, touched


def _help_to_train(config: RunConfig, loaded: Loaded, store: Store) -> None:
    """What a process that does not lead does while a system is trained: its share of every batch."""
    splits = loaded.splits
    train, _ = _training_examples(config, loaded)
    folder, given = store.work(config.system_key()), config.model.pretrained(splits.spec)
    _fit_weights(config, splits.spec, build(config, splits.spec), given, train, splits.select, folder, lambda _: None)
    world.wait()


def _fit_weights(
    config: RunConfig,
    spec: DataSpec,
    model: nn.Module,
    given: dict[str, Tensor] | None,
    train: Examples,
    select: Examples,
    folder: Path,
    tell: Callable[[dict[str, float]], None],
) -> list[dict[str, float]]:
    """Load given weights, or train; the epochs that were trained, each told as it ends."""
    from benchmark.stages import training

    if config.model.learns():
        if train.soft is not None:
            raise Refused(
                f"model.{registry.name_of(config.model)[1]} learns from labels, and a defense made them soft; leave "
                "that defense out, or choose a model that is trained by gradients"
            )
        config.model.learn(model, train, spec, derive_seed(config.seed, "learn") % 2**31)
        return []
    if config.system.init_from:
        source = initial_weights(config)
        if not source.is_file():
            raise DataError(
                f"system.init_from is {config.system.init_from!r}, and there is no {source}; give the key of a trained "
                "system of this store (its folder under systems/) or the path of a folder or a .safetensors file"
            )
        load_weights(model, source)
    if given is not None:
        model.load_state_dict(given)
        if not _trains_further(config):
            return []
    threats = [t for t in (d.training_threat() for d in config.defenses) if t is not None]
    fitting = training.Fitting(
        model,
        spec,
        train,
        select,
        config.training,
        config.defenses,
        threats[-1] if threats else None,
        config.seed,
        folder,
    )
    return training.train(fitting, config.trainer, tell)


def _trains_further(config: RunConfig) -> bool:
    """Whether a defense has anything to say while weights are trained."""
    return any(
        type(defense).loss is not Defense.loss or type(defense).prepare is not Defense.prepare
        for defense in config.defenses
    )


def initial_weights(config: RunConfig) -> Path:
    """The weights file that `system.init_from` names."""
    path = Path(config.system.init_from)
    if path.suffix == ".safetensors":
        return path
    if path.is_dir():
        return path / WEIGHTS
    return Store(Path(config.store.root)).system(config.system.init_from) / WEIGHTS


class _Further:
    """Trains a module in place by the run's recipe, for defenses that train after the training."""

    def __init__(self, config: RunConfig, spec: DataSpec, folder: Path) -> None:
        self.config, self.spec, self.folder, self.times = config, spec, folder, 0

    def __call__(self, module: nn.Module, examples: Examples, loss: Loss) -> None:
        """Train `module` on `examples` under `loss`; the last epoch is kept."""
        from benchmark.stages import training

        self.times += 1
        seed = derive_seed(self.config.seed, self.folder.name, self.times)
        fitting = training.Fitting(
            module,
            self.spec,
            examples,
            None,
            self.config.training,
            (),
            None,
            seed,
            self.folder / str(self.times),
            loss,
        )
        training.train(fitting, dataclasses.replace(self.config.trainer, devices=1, strategy="auto"), lambda _: None)


def _calibrate(config: RunConfig, spec: DataSpec, model: nn.Module, select: Examples) -> dict[str, list[float]]:
    """Per detector: the threshold that refuses 5 % of the clean select examples, and the spread of their scores."""
    thresholds = {}
    for place, defense in enumerate(config.defenses):
        if not defense.detects:
            continue
        system = System(model, spec, config.defenses[:place])
        scores = torch.cat(
            [defense.suspicion(system, select.x(at)) for at in torch.arange(len(select)).split(256)]
        ).detach()
        ordered = scores.double().sort().values
        at = min(len(ordered) - 1, int((1 - DETECTOR_FALSE_POSITIVES) * len(ordered)))
        thresholds[registry.name_of(defense)[1]] = [float(ordered[at]), float(scores.double().std().clamp_min(1e-6))]
    return thresholds


def correct(system: System, examples: Examples, seed: int, device: torch.device) -> int:
    """How many examples a system gets right, by the same passes as in the attack stage."""
    from benchmark.stages.judge import answer

    total = 0
    system.to(device)
    for at in torch.arange(len(examples)).split(256):
        rng = SampleRandom(derive_seed(seed, "cell"), examples.ids[at].to(device)).child("clean")
        y = examples.y[at].to(device)
        total += int((answer(system, examples.x(at).to(device), y, rng).label == y).sum())
    return total
