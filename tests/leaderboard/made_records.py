"""Cells that nobody ran: consistent records with their outcomes, written as the harness writes them, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmark.records.described import AttackInfo, SystemInfo, ThreatInfo
from benchmark.records.document import content_key, to_text
from benchmark.records.durable import file_sha256
from benchmark.records.record import Audit, Cost, Counts, FileInfo, Finding, MetricValue, Record, SplitInfo, Status

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


def made_cell(
    root: Path,
    *,
    clean: Sequence[bool] | Bools,
    distance: Sequence[float] | NDArray[np.float64],
    valid: Sequence[bool] | Bools | None = None,
    certified: Sequence[float] | NDArray[np.float64] | None = None,
    attack: str = "pgd",
    params: Mapping[str, Any] | None = None,
    minimal: bool = False,
    bounded: bool = True,
    access: str = "gradients",
    eps: str = "1/10",
    norm: str = "linf",
    goal: str = "untargeted",
    aware: bool = True,
    region: str = "full",
    queries: int | None = None,
    surrogate: str = "",
    model: str = "mlp",
    model_params: Mapping[str, Any] | None = None,
    defenses: Sequence[str] = (),
    poison: Sequence[str] = (),
    seed: int = 0,
    suite: str | None = "made_v1",
    official: bool = True,
    dataset: str = "digits",
    dataset_revision: str = "r1",
    examples: str = "",
    findings: Sequence[Finding] = (),
    status: Status = "complete",
    error: str | None = None,
    backwards: int = 10,
    metrics: Sequence[MetricValue] = (),
) -> Path:
    """Write `cells/<key>/{record.json, outcomes.safetensors, witness.safetensors}` under `root`; returns the folder.

    Args:
        clean: (N,) right on the clean input. distance: (N,) of the candidate the attack found, in the threat's norm;
            infinite where it found none; looked at only where the example is clean and the candidate valid.
        valid: (N,) the candidate was inside the threat; all of them by default. certified: (N,) proved radius.
        backwards: gradients asked for, per attacked example (noise asks for none). metrics: those of plugins.
        examples: shifts the ids by its length: another example list of the same size.
    """
    radius = float(Fraction(eps))
    found = _Found.of(clean, distance, valid, certified, radius=radius if bounded else None)
    system = _system(model, model_params, dataset, defenses, poison, seed, dataset_revision)
    threat = ThreatInfo.model_validate(
        {
            "norm": norm, "eps": radius, "eps_exact": str(Fraction(eps)), "access": access, "aware": aware,
            "targeted": goal != "untargeted", "goal": goal, "region": region, "queries": queries, "eot": 1,
            "surrogate": surrogate,
        }
    )  # fmt: skip
    method = AttackInfo(
        name=attack,
        params=dict(params or {}),
        distribution="adversarial-benchmark",
        version="0.1.0",
        minimal=minimal,
        randomized=attack == "noise",
        bounded=bounded,
    )
    ids = np.arange(len(found.clean), dtype=np.int64) + 1000 + len(examples)
    examples_sha256 = hashlib.sha256(ids.tobytes() + _labels(ids).tobytes()).hexdigest()
    key = content_key(
        [system.key, threat.model_dump(), method.model_dump(), seed, suite, official, dataset_revision, examples_sha256,
         status]
    )  # fmt: skip
    record = Record(
        key=key, status=status, error=error, suite=suite, official=official, seed=seed, system=system, threat=threat,
        attack=method, findings=list(findings), dataset_revision=dataset_revision,
    )  # fmt: skip
    folder = root / "cells" / key
    folder.mkdir(parents=True, exist_ok=True)
    if status == "complete":
        record = _completed(record, folder, found, ids, 0 if attack == "noise" else backwards, examples_sha256, metrics)
    (folder / "record.json").write_text(to_text(record), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class _Found:
    """Outcome of each example, (N,) each; valid: also where the attack was not run."""

    clean: Bools
    valid: Bools
    adversarial: Bools
    broken: Bools
    far: Floats
    proved: Floats

    @classmethod
    def of(
        cls,
        clean: Sequence[bool] | Bools,
        distance: Sequence[float] | NDArray[np.float64],
        valid: Sequence[bool] | Bools | None,
        certified: Sequence[float] | NDArray[np.float64] | None,
        *,
        radius: float | None,
    ) -> _Found:
        """As :func:`made_cell` is told; without a radius any distance breaks."""
        right = np.asarray(clean, dtype=bool)
        ok = np.ones(len(right), dtype=bool) if valid is None else np.asarray(valid, dtype=bool) | ~right
        near = np.asarray(distance, dtype=np.float32)
        adversarial = right & ok & np.isfinite(near)
        far = np.where(adversarial, near, np.float32(np.inf)).astype(np.float32)
        broken = adversarial if radius is None else adversarial & (far <= np.float32(radius))
        proved = np.zeros(len(right), np.float32) if certified is None else np.asarray(certified, dtype=np.float32)
        return cls(right, ok, adversarial, broken, far, proved)


def _labels(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.arange(len(ids), dtype=np.int64) % 10


def _system(
    model: str,
    model_params: Mapping[str, Any] | None,
    dataset: str,
    defenses: Sequence[str],
    poison: Sequence[str],
    seed: int,
    revision: str,
) -> SystemInfo:
    config = {
        "dataset": _described(dataset),
        "model": _described(model, model_params),
        "defenses": [_described(d) for d in defenses],
        "poison": [_described(p) for p in poison],
        "training": {"epochs": 5},
        "precision": "32-true",
        "init_from": "",
    }
    return SystemInfo(
        key=plain_key(config, seed, revision),
        dataset=dataset,
        model=model,
        defenses=list(defenses),
        poison=list(poison),
        config=config,
    )


def _completed(
    record: Record,
    folder: Path,
    found: _Found,
    ids: NDArray[np.int64],
    backwards: int,
    examples_sha256: str,
    metrics: Sequence[MetricValue],
) -> Record:
    """The record with its results, whose files are written."""
    clean, ok, broken = found.clean, found.valid, found.broken
    passes, gradients = (np.where(clean, each, 0).astype(np.int64) for each in (10, backwards))
    save_file(
        _arrays(record.threat.norm, ids, _labels(ids), clean, ok, found.adversarial, broken, found.far, found.proved,
                passes, gradients),
        folder / "outcomes.safetensors",
    )  # fmt: skip
    shown = ids[found.adversarial]
    save_file({"ids": shown, "x_adv": np.zeros((len(shown), 4), np.float32)}, folder / "witness.safetensors")
    return record.model_copy(
        update={
            "counts": Counts(
                total=len(ids), clean_correct=int(clean.sum()), robust_correct=int((clean & ok & ~broken).sum()),
                clean_top5=len(ids), robust_top5=len(ids), invalid=int((clean & ~ok).sum()),
            ),
            "cost": Cost(forwards=int(passes.sum()), backwards=int(gradients.sum()),
                         seconds=1.5, peak_memory_bytes=1 << 20),
            "audit": Audit(max_distance=float(found.far[broken].max(initial=0.0)), max_excess=None, outside_ball=0,
                           outside_box=0, outside_region=0, non_finite=0),
            "splits": {"test": SplitInfo(count=len(ids), sha256=examples_sha256)},
            "splits_disjoint": True,
            "metrics": list(metrics),
            "examples_sha256": examples_sha256,
            "weights_sha256": record.system.key * 2,
            "files": [_file(folder / name) for name in ("outcomes.safetensors", "witness.safetensors")],
            "provenance": {
                "overrides": [f"attack={record.attack.name}", f"model={record.system.model}", f"seed={record.seed}"]
            },
        }
    )  # fmt: skip


def plain_key(config: Mapping[str, Any], seed: int, revision: str) -> str:
    """The key that the harness gives to a system of that configuration."""
    return content_key({"system": config, "seed": seed, "data": content_key({"dataset": revision, "files": {}})})


def made_store(root: Path, *, systems: int = 4, attacks: int = 3, examples: int = 60, seeds: int = 1) -> Path:
    """A store with a board per radius (1/20 and 1/10 under linf): better systems first, stronger attacks last.

    The attacks are noise, fgsm, pgd, deepfool (minimal), square (scores), then pgd with more and more steps. Returns
    `root`.
    """
    for index in range(systems):
        for seed in range(seeds):
            rng = np.random.default_rng([index, seed])
            clean = rng.random(examples) < 0.97 - 0.01 * (index % 20)
            exact = rng.gamma(4.0, 0.03 / (1 + 0.3 * (index % 25)), examples)
            for at in range(attacks):
                slack = 1 + rng.exponential(1.0 / (1 + at), examples)
                for eps in ("1/20", "1/10"):
                    _one_of_many(root, index, seed, at, eps, clean, exact * slack)
    return root


def _one_of_many(root: Path, index: int, seed: int, at: int, eps: str, clean: Bools, found: Any) -> None:
    names = ("noise", "fgsm", "pgd", "deepfool", "square")
    name = names[at] if at < len(names) else "pgd"
    minimal = name == "deepfool"
    made_cell(
        root,
        clean=clean,
        distance=found if minimal else np.where(found <= float(Fraction(eps)), found, np.inf),
        attack=name,
        params={"steps": 10 * (at + 1)} if name == "pgd" else {},
        minimal=minimal,
        access="scores" if name == "square" else "labels" if name == "noise" else "gradients",
        eps=eps,
        model=("mlp", "linear", "small_cnn")[index % 3],
        model_params={"width": 8 * (index // 6 + 1)},
        defenses=((), ("adversarial_training",))[index // 3 % 2],
        seed=seed,
    )


def _described(name: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "params": dict(params or {}), "distribution": "adversarial-benchmark", "version": "0.1.0"}


def _arrays(
    norm: str,
    ids: Any,
    y: Any,
    clean: Bools,
    valid: Bools,
    adversarial: Bools,
    broken: Bools,
    far: Floats,
    proved: Floats,
    passes: Any,
    gradients: Any,
) -> dict[str, Any]:
    """The arrays of `outcomes.safetensors`; the other norms repeat the distances."""
    n = len(clean)
    wrong = (y + 1) % 10
    return {
        "ids": ids,
        "y": y,
        "clean_label": np.where(clean, y, wrong),
        "adv_label": np.where(clean & ~adversarial, y, wrong),
        "clean_correct": clean,
        "clean_top5": np.ones(n, dtype=bool),
        "attacked": clean.copy(),
        "valid": valid,
        "adversarial": adversarial,
        "broken": broken,
        "robust_top5": np.ones(n, dtype=bool),
        **{name: far.copy() for name in ("l0", "l1", "l2", "linf") if name != norm},
        norm: far,
        "excess": np.where(valid, np.float32(0), np.float32(0.5)).astype(np.float32),
        "forwards": passes,
        "backwards": gradients,
        "zero_gradient": np.zeros(n, dtype=bool),
        "bad_gradient": np.zeros(n, dtype=bool),
        "certified": proved,
    }


def _file(path: Path) -> FileInfo:
    return FileInfo(path=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))
