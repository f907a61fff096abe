"""`benchmark.evaluate`: run the pipeline of `benchmark run` on a model and arrays in memory."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark import run as pipeline
from benchmark.api import DataSpec
from benchmark.config.cell import RunConfig
from benchmark.config.schema import StoreConfig, Trainer, Training
from benchmark.errors import BenchmarkError, ConfigError, Refused
from benchmark.hooks.events import CellResult
from benchmark.interface.chosen import plugin, plugins
from benchmark.interface.given import GivenData, GivenModel
from benchmark.interface.inputs import Bounds, chosen_threat, examples_of, in_their_units, rule_of
from benchmark.interface.progress import Progress
from benchmark.interface.result import Cell, Evaluation
from benchmark.records.remote import lockable
from benchmark.records.store import Store
from benchmark.system.adapted import AnswerKind, AnswerRule, InputRule
from benchmark.threat import Access, Threat

__all__ = ["evaluate"]

METRICS = ("clean_accuracy", "robust_accuracy", "attack_success", "distances", "passes")
"""Default metrics, as in conf/run.yaml."""


def evaluate(
    model: Callable[[Any], object],
    x: Any,
    y: Any,
    attacks: object = ("pgd_10",),
    threat: str | Threat = "linf_8_255",
    *,
    eps: float | str | None = None,
    bounds: Bounds = (0.0, 1.0),
    layout: str | None = None,
    answers: str = "logits",
    output: int | str | None = None,
    classes: int | None = None,
    defenses: object = (),
    certifiers: object = (),
    metrics: object = METRICS,
    train: tuple[Any, Any] | None = None,
    select: tuple[Any, Any] | None = None,
    seed: int = 0,
    batch_size: int = 128,
    device: str = "cpu",
    store: str | Path | None = None,
    name: str = "",
    data: str = "data",
    progress: bool = True,
) -> Evaluation:
    """Attack a model and judge the candidates: the cells, records and witnesses of `benchmark run`, one per attack.

    Args:
        model: an `nn.Module`, which is copied and called in evaluation mode, or any callable. A callable gets the type
            of `x`, a tensor or a NumPy array; one that takes arrays, or returns labels, has no gradients.
        x: (N, ...) inputs in the range of `bounds` and the layout of `layout`. y: (N,) whole numbers from 0.
        attacks: a name ("pgd_10"), a name with settings ({"pgd": {"steps": 10}}), an object (`PGD(steps=10)`), or
            a list of these.
        threat: the name of a file in conf/threat, a :class:`benchmark.threat.Threat` (eps in units of [0, 1]), or the
            name of a norm with `eps`. The access is lowered to what the model gives.
        eps: the radius in units of the given inputs, in place of the threat's.
        bounds: (low, high) of the inputs, or {"mean": ..., "std": ...} of a normalisation of [0, 1].
        layout: NCHW, NHWC, NHW (one channel without an axis) or flat (N, D); by default NCHW for four axes and flat
            for two.
        answers: logits, probabilities, labels, or logit (one, for two classes, positive for class 1).
        output: part of the model's output to use: an index of a tuple, a key of a dict, an attribute of an object.
        classes: number of classes, if the answers are labels; by default the largest label plus 1.
        defenses: applied at inference. certifiers, metrics: to run besides the attacks. All are given like `attacks`.
        train, select: (x, y), for attacks that prepare something or use their own inputs, and for detector thresholds.
        device: cpu, or cuda. store: folder for records, outcomes and witnesses; by default a temporary one.
        name, data: display names of model and data. progress: report progress on standard error.

    Raises:
        ConfigError: if a value is invalid. SystemFault: if the model's output is not as declared.
        BenchmarkError: if no attack could be completed, with the reason.
    """
    rule = rule_of(x, bounds, layout)
    given = {"test": (x, y), "train": train, "select": select}
    named = {"test": "x", "train": "train", "select": "select"}
    parts = {part: examples_of(*pair, rule, named[part]) for part, pair in given.items() if pair is not None}
    held = _model(model, x, rule, answers, output, classes, name, parts)
    base = _config(held, parts, chosen_threat(threat, eps, rule), data, plugins("defense", defenses))
    folder = Path(tempfile.mkdtemp(prefix="benchmark-")) if store is None else Path(lockable(store))
    base = dataclasses.replace(
        base,
        certifiers=plugins("certifier", certifiers),
        metrics=plugins("metric", metrics),
        seed=seed,
        batch_size=batch_size,
        trainer=Trainer(accelerator=_accelerator(device)),
        store=StoreConfig(root=str(folder), data=str(folder / "data"), offline=True),
    )
    threat_met, note = _within_access(base.threat, held.access)
    base = base.under(threat_met)
    chosen = [plugin("attack", attack) for attack in _listed(attacks)]
    cells = _run(base, chosen, folder, kept=store is not None, progress=progress)
    notes = tuple(sentence for sentence in (in_their_units(threat_met, rule), note) if sentence)
    return Evaluation(cells, notes, folder, kept=store is not None)


def _run(base: RunConfig, attacks: list[Any], folder: Path, *, kept: bool, progress: bool) -> tuple[Cell, ...]:
    """Run a cell for each attack; on an error, a folder that is not `kept` is deleted."""
    try:
        return _cells(base, attacks, Store(folder), progress=progress)
    except BaseException:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        pipeline.forget(folder)


def _listed(attacks: object) -> list[object]:
    found = list(attacks) if isinstance(attacks, (list, tuple)) else [attacks]
    if not found:
        raise ConfigError("attacks is empty; name at least one, such as attacks=['pgd_10'] or ['none']")
    return found


@dataclass(frozen=True)
class _Held:
    """The model as a part of a cell, its number of classes, and its access."""

    model: GivenModel
    classes: int
    access: Access


def _model(
    model: Callable[[Any], object],
    x: Any,
    rule: InputRule,
    answers: str,
    output: int | str | None,
    classes: int | None,
    name: str,
    parts: dict[str, tuple[Tensor, Tensor]],
) -> _Held:
    """Wrap the model, after a trial on a few examples that checks its output."""
    if not callable(model):
        raise ConfigError(f"the model is a {type(model).__name__}; expected an nn.Module, or a function of a batch")
    kind = AnswerKind.of(answers)
    seen = max((int(labels.max()) + 1 for _, labels in parts.values() if len(labels)), default=0)
    arrays = not (isinstance(model, nn.Module) or isinstance(x, Tensor))
    count = classes or max(seen, 2)
    answer_rule = AnswerRule(kind, output, count)
    inputs, _ = parts["test"]
    few = inputs[:16].float() / 255.0 if inputs.dtype == torch.uint8 else inputs[:16]
    held = GivenModel.of(name or _name(model), model, rule, answer_rule, few, arrays=arrays)
    found = held.classes(few[:2])
    if classes is not None and found != classes:
        raise ConfigError(f"classes is {classes}, but the model returns {found} scores")
    if seen > found:
        raise ConfigError(f"the labels go up to {seen - 1}, but the model has {found} classes, from 0")
    access = Access.labels if kind is AnswerKind.labels else Access.scores if arrays else Access.gradients
    return _Held(held, found, access)


def _name(model: object) -> str:
    found = getattr(model, "__name__", "") or type(model).__name__
    return "function" if found == "<lambda>" else found


def _config(
    held: _Held, parts: dict[str, tuple[Tensor, Tensor]], threat: Threat, data: str, defenses: tuple[Any, ...]
) -> RunConfig:
    """Configuration of the cell without its attack, store and progress."""
    spec = DataSpec(tuple(parts["test"][0].shape[1:]), held.classes)
    attack = plugin("attack", "none")
    return RunConfig(
        dataset=GivenData.of(data, parts, spec),
        model=held.model,
        attack=attack,
        threat=threat,
        defenses=defenses,
        training=Training(epochs=0, selection_attack=attack),
    )


def _accelerator(device: str) -> str:
    accelerator = {"cpu": "cpu", "cuda": "gpu", "gpu": "gpu"}.get(device)
    if accelerator is None:
        raise ConfigError(f"device is {device!r}; expected cpu or cuda")
    return accelerator


def _within_access(threat: Threat, access: Access) -> tuple[Threat, str]:
    """Threat with the access lowered to the model's, and a sentence about that if it is less."""
    if threat.access is Access.transfer:
        raise ConfigError("threat.access is transfer, which needs a system in a store; use benchmark run")
    if access.grants(threat.access):
        return threat, ""
    why = "it answers with labels" if access is Access.labels else "it is given NumPy arrays, so it has no gradients"
    note = f"Access: {access.value}, the most that this model gives: {why}."
    return dataclasses.replace(threat, access=access), note


def _cells(base: RunConfig, attacks: list[Any], store: Store, *, progress: bool) -> tuple[Cell, ...]:
    """Cells of the attacks; one that is refused or fails does not end the others, unless none is complete."""
    cells, ended = [], []
    for attack in attacks:
        trackers = (Progress(registry.name_of(attack)[1]).start(),) if progress else ()
        result: CellResult = pipeline.run(dataclasses.replace(base, attack=attack, trackers=trackers))
        ended.append(result)
        record = store.record(result.key)
        if record is not None:
            cells.append(Cell(record, store.cell(result.key)))
    if not any(cell.record.status == "complete" for cell in cells):
        sentence = "; ".join(dict.fromkeys(str(result.error) for result in ended))
        raise (Refused if all(result.status == "refused" for result in ended) else BenchmarkError)(sentence)
    return tuple(cells)
