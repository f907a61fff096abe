"""Contents of a W&B run: record, card and gallery as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.hooks.events import Gallery, Report
    from benchmark.records.card import Card
    from benchmark.records.record import Record

__all__ = [
    "charts_of",
    "curve_of",
    "images",
    "readable",
    "result_table",
    "summary_of_cell",
    "summary_of_training",
    "tables_of",
]

CURVE_POINTS = 64
SMALLEST_SIDE = 64  # pixels; smaller images are shown enlarged


def readable(value: Any) -> Any:
    """Plain data that W&B can filter by: it shows nested settings by path, but not lists of them.

    A list of components becomes {"order": "a+b", "a": settings, "b": settings}.
    """
    if isinstance(value, dict):
        return {str(name): readable(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        names = [part.get("name") if isinstance(part, dict) else None for part in value]
        if names and all(names) and len(set(names)) == len(names):
            by_name = {str(name): readable(part) for name, part in zip(names, value, strict=True)}
            return {"order": "+".join(by_name), **by_name}
        return [readable(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def summary_of_cell(record: Record) -> dict[str, Any]:
    """Numbers of a record, without those not measured."""
    summary: dict[str, Any] = {"status": record.status, "findings": len(record.findings)}
    if record.error is not None:
        summary["error"] = record.error
    for metric in record.metrics:
        parts = {metric.name: metric.value, f"{metric.name}_low": metric.low, f"{metric.name}_high": metric.high}
        summary.update({name: float(part) for name, part in parts.items() if part is not None})
    if record.counts is not None:
        summary["counts"] = record.counts.model_dump()
    if record.cost is not None:
        summary["cost"] = record.cost.model_dump()
    return summary


def summary_of_training(card: Card) -> dict[str, Any]:
    """Numbers of a system's card."""
    numbers = card.model_dump(
        include={
            "epochs_run",
            "selected_epoch",
            "robust_selection",
            "select_correct",
            "select_total",
            "test_correct",
            "test_total",
            "train_examples",
            "poisoned_examples",
            "parameters",
            "seconds",
        },
        exclude_none=True,
    )
    return {**numbers, "warnings": len(card.warnings)}


def result_table(record: Record) -> Any:
    """Result of the cell as a table of one row; W&B stacks the rows of a sweep's runs."""

    row: dict[str, Any] = {
        "system": "+".join([f"{record.system.dataset}/{record.system.model_name}", *record.system.defenses]),
        "attack": record.attack.label,
        "norm": record.threat.norm,
        "eps": record.threat.eps_exact,
        "access": record.threat.access,
        "seed": record.seed,
        "status": record.status,
    }
    counts = record.counts
    for name in ("total", "clean_correct", "robust_correct", "invalid"):
        row[name] = None if counts is None else getattr(counts, name)
    for name in ("clean_accuracy", "robust_accuracy"):
        metric = record.metric(name)
        for part in ("value", "low", "high"):
            key = name if part == "value" else f"{name}_{part}"
            row[key] = None if metric is None else getattr(metric, part)
    for name in ("forwards", "backwards", "seconds"):
        row[name] = None if record.cost is None else getattr(record.cost, name)
    row["findings"] = ", ".join(finding.name for finding in record.findings)
    return _table(list(row), [list(row.values())])


def _table(columns: list[str], rows: list[list[Any]]) -> Any:
    """A table of W&B, filled row by row: given all at once, W&B imports pandas to see whether it is a data frame."""
    import wandb

    table = wandb.Table(columns=[*columns])
    for row in rows:
        table.add_data(*row)
    return table


def tables_of(report: Report) -> dict[str, Any]:
    """Tables of a report, by name."""
    return {table.name: _table([*table.columns], [list(row) for row in table.rows]) for table in report.tables}


def charts_of(report: Report) -> dict[str, Any]:
    """One chart per set of curves."""
    import wandb

    return {
        series.name: wandb.plot.line_series(
            xs=[list(xs) for _, xs, _ in series.lines],
            ys=[list(ys) for _, _, ys in series.lines],
            keys=[label for label, _, _ in series.lines],
            title=f"{series.y} against {series.x}",
            xname=series.x,
        )
        for series in report.series
    }


def curve_of(record: Record, folder: Path) -> Iterator[tuple[float, float]]:
    """Robust accuracy at increasing eps in the threat's norm, exact at each point.

    Only for attacks that search for the smallest perturbation: one of their cells gives the accuracy at every radius.
    """
    file = folder / "outcomes.safetensors"
    if not (record.attack.minimal and file.is_file()):
        return
    from benchmark.api import Outcomes

    outcomes = Outcomes.load(file)
    judged = outcomes.valid | ~outcomes.attacked
    total, right = len(judged), int((judged & outcomes.clean_correct).sum())
    if total == 0:
        return
    fell = outcomes.distances(record.threat.norm)[judged & outcomes.adversarial].double().sort().values.tolist()
    yield 0.0, (right - fell.count(0.0)) / total
    last = 0
    for point in range(1, CURVE_POINTS + 1):
        broken = math.ceil(point * len(fell) / CURVE_POINTS)
        while 0 < broken < len(fell) and fell[broken] == fell[broken - 1]:
            broken += 1  # examples that fall at one radius fall together
        if broken > last and fell[broken - 1] > 0:
            yield fell[broken - 1], (right - broken) / total
        last = max(last, broken)


def images(gallery: Gallery | None) -> dict[str, Any]:
    """Clean images, adversarial images and amplified differences of the gallery's examples, as three rows."""
    if gallery is None or len(gallery.ids) == 0:
        return {}
    import wandb

    difference = gallery.adv - gallery.clean
    largest = difference.abs().flatten(1).amax(1).clamp_min(1e-12)
    amplified = 0.5 + difference / (2 * largest[:, None, None, None])
    clean, adv, shown = (_pixels(x) for x in (gallery.clean, gallery.adv, amplified))
    rows: dict[str, list[Any]] = {"examples/clean": [], "examples/adversarial": [], "examples/difference": []}
    for i, (name, y) in enumerate(zip(gallery.ids.tolist(), gallery.y.tolist(), strict=True)):
        captions = (
            f"{name}: label {y}, seen as {_label(gallery.clean_label[i])}",
            f"{name}: label {y}, seen as {_label(gallery.adv_label[i])}",
            f"{name}: largest change {float(largest[i]):.4g}, shown as full contrast",
        )
        for row, pixels, caption in zip(rows.values(), (clean[i], adv[i], shown[i]), captions, strict=True):
            row.append(wandb.Image(pixels, caption=caption))
    return dict(rows)


def _label(label: Tensor) -> str:
    return "refused" if int(label) < 0 else str(int(label))


def _pixels(x: Tensor) -> Any:
    """Images x (M, C, H, W) in [0, 1] as uint8: (M, H, W, 3), or (M, H, W) of the mean if C is not 3."""
    import torch

    if x.shape[1] != 3:
        x = x.mean(1, keepdim=True)
    factor = math.ceil(SMALLEST_SIDE / min(x.shape[-2:]))
    x = x.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels
