"""Cells, trainings and sweeps as trackers are told of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_plugins.metrics.clean_accuracy import CleanAccuracy
from benchmark_plugins.metrics.passes import Passes
from benchmark_plugins.metrics.robust_accuracy import RobustAccuracy

from benchmark.hooks.events import CellPlan, Gallery, TrainingPlan
from benchmark.hooks.observers import Observers
from benchmark.records.card import Card
from benchmark.records.described import AttackInfo, SystemInfo, ThreatInfo
from benchmark.records.document import to_text
from benchmark.records.durable import file_sha256
from benchmark.records.record import Cost, Counts, FileInfo, Finding, MetricValue, Record
from tests.plugins._made_outcomes import made_outcomes

INF = float("inf")

DISTANCES = torch.tensor([0.05, 0.1, 0.2, 0.2, 0.4, INF, INF, 0.3, 0.9, 0.9])

CLEAN = torch.tensor([True] * 8 + [False] * 2)

VALID = torch.tensor([True] * 7 + [False] + [True] * 2)


def cell_plan(root: Path, index: int = 0) -> CellPlan:
    key = f"{index:02d}" + "0123456789abcdef012345"
    return CellPlan(
        key=key,
        name=f"digits/small_cnn+jpeg pgd linf 1/10 seed {index}",
        config={
            "attack": {"name": "pgd", "steps": 40 + index},
            "defenses": [{"name": "jpeg", "quality": 75}, {"name": "label_smoothing", "amount": 0.1}],
            "seed": index,
            "examples": None,
        },
        overrides=("attack=pgd", f"seed={index}"),
        sweep="sweep-7",
        folder=root / "cells" / key,
        work=root / "work" / key,
    )


def finished(plan: CellPlan, *, status: str = "complete", minimal: bool = True) -> Record:
    """A record with its files in the plan's folder; a cell that did not complete has no numbers."""
    plan.folder.mkdir(parents=True)
    done: dict[str, Any] = {"error": "RuntimeError: it broke [here]"}
    if status == "complete":
        outcomes = made_outcomes(
            CLEAN, valid=VALID, distance=DISTANCES, eps=0.1, forwards=torch.full((10,), 40, dtype=torch.int64)
        )
        outcomes.save(plan.folder / "outcomes.safetensors")
        measured = [m for metric in (CleanAccuracy(), RobustAccuracy(), Passes()) for m in metric.measure(outcomes)]
        file = plan.folder / "outcomes.safetensors"
        done = {
            "counts": Counts(total=10, clean_correct=8, robust_correct=5, clean_top5=8, robust_top5=5, invalid=1),
            "metrics": [MetricValue(**dataclasses.asdict(m)) for m in measured],
            "cost": Cost(forwards=320, backwards=160, seconds=3.21, peak_memory_bytes=1000),
            "findings": [Finding(name="zero_gradients", severity="warning", evidence="4 of 8 are [zero]")],
            "files": [FileInfo(path=file.name, bytes=file.stat().st_size, sha256=file_sha256(file))],
        }
    record = Record(
        key=plan.key,
        status=status,  # type: ignore[arg-type]
        suite=None,
        official=False,
        seed=0,
        system=SystemInfo(
            key="s", dataset="digits", model="small_cnn", defenses=["jpeg"], poison=[], config={"seed": 0}
        ),
        threat=ThreatInfo(
            norm="linf",
            eps=0.1,
            eps_exact="1/10",
            access="gradients",
            aware=True,
            targeted=False,
            goal="untargeted",
            region="full",
            queries=None,
            eot=1,
        ),
        attack=AttackInfo(
            name="pgd", params={"steps": 40}, distribution="d", version="1", minimal=minimal, randomized=False
        ),
        **done,
    )
    (plan.folder / "record.json").write_text(to_text(record))
    return record


def gallery(channels: int = 1) -> Gallery:
    clean = torch.full((3, channels, 8, 8), 0.5)
    adv = clean.clone()
    adv[:, :, 0, 0] = 0.6
    adv[:, :, 7, 7] = 0.4
    labels = torch.tensor([1, 2, 3])
    return Gallery(labels + 100, labels, clean, adv, labels, torch.tensor([4, -1, 3]))


def training_plan(root: Path) -> TrainingPlan:
    key = "ff0123456789abcdef012345"
    return TrainingPlan(key, "digits/small_cnn", {"model": {"name": "small_cnn"}}, 3, "sweep-7", root / "systems" / key)


def card_of(plan: TrainingPlan) -> Card:
    return Card(
        key=plan.key,
        system=SystemInfo(key=plan.key, dataset="digits", model="small_cnn", defenses=[], poison=[], config={}),
        seed=0,
        init_from=None,
        dataset_revision="r",
        splits={},
        splits_disjoint=True,
        train_examples=1097,
        poisoned_examples=0,
        epochs_run=3,
        selected_epoch=2,
        robust_selection=None,
        select_correct=190,
        select_total=200,
        test_correct=486,
        test_total=500,
        warnings=["the loss rose"],
        parameters=1234,
        weights_sha256="w",
        seconds=75.0,
    )


def observed(*trackers: Any) -> Callable[..., None]:
    """Tells the trackers as the core does, and fails where the core would only report."""
    observers = Observers(trackers)

    def tell(hook: str, **values: Any) -> None:
        observers.tell(hook, **values)
        assert observers.problems == []

    return tell
