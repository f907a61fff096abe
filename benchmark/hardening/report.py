"""Report of a search: its path, gain and cost of each defense, and the result on held-out examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmark.hardening.measure import Measured
from benchmark.hardening.search import Path, Tried
from benchmark.records.tables import table

__all__ = ["as_data", "page"]

PATH = ("tried", "clean", "robust", "strongest attack", "gain", "training", "kept")


def as_data(path: Path) -> dict[str, Any]:
    """Path as plain data; the same search gives the same data."""
    return {
        "goal": {"robust": path.goal.robust, "clean_loss": path.goal.clean_loss},
        "reached": path.reached,
        "best": [part.label for part in path.best.stack],
        "steps": [_plain(step) for step in path.steps],
    }


def _plain(step: Tried) -> dict[str, Any]:
    measured = step.measured
    found: dict[str, Any] = {
        "stack": [part.label for part in step.stack],
        "kept": step.kept,
        "why": step.why,
        "gain": round(step.gain, 6),
        "clean_loss": round(step.loss, 6),
    }
    if measured is not None:
        found |= {
            "clean_correct": int(measured.clean.sum()),
            "robust_correct": int(measured.held.sum()),
            "examples": len(measured.held),
            "strongest": measured.strongest,
            "by_attack": {name: int(held.sum()) for name, held in measured.by.items()},
            "cells": [record.key for record in measured.records],
        }
    return found


def page(path: Path, final: Measured, searched: int, verdict: str, told: list[str]) -> str:
    """Report in Markdown.

    Args:
        final: the best stack on all examples; those after the first `searched` are held out. verdict: whether the goal
            is reached on them. told: sentences about the files of the model.
    """
    first = path.steps[0].measured
    assert first is not None
    record = final.records[0]
    lines = [
        "# Hardening " + record.system.name.partition("+")[0],
        "",
        f"**{verdict}**",
        "",
        f"Threat: {record.threat.norm} {record.threat.eps_exact}, {record.threat.access}; the attacker knows the "
        f"defenses. Attacks: {', '.join(final.by)}. Aim: {100 * path.goal.robust:.1f} % robust accuracy, for at "
        f"most {100 * path.goal.clean_loss:.1f} points of clean accuracy. The search used {searched} examples.",
        "",
        "## The path",
        "",
        table(PATH, [_row(step) for step in path.steps], "markdown"),
        "",
        "## The result on held-out examples",
        "",
        *_held_out(final, searched),
        "## The model",
        "",
        *(f"- {sentence}" for sentence in told),
        "",
        f"Key of the system: `{record.system.key}`. Records: "
        + ", ".join(f"`{record.key}`" for record in final.records)
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _row(step: Tried) -> tuple[str, ...]:
    measured = step.measured
    mark = ("yes: " if step.kept else "no: ") + step.why
    if measured is None:
        return step.label, "", "", "", "", "", mark
    return (
        step.label,
        f"{100 * measured.accuracy:.1f} %",
        f"{100 * measured.robust:.1f} %",
        measured.strongest,
        f"{100 * step.gain:+.1f}" if step.stack else "",
        f"{measured.training_seconds:.0f} s",
        mark,
    )


def _held_out(final: Measured, searched: int) -> Iterator[str]:
    fresh = slice(searched, None)
    if len(final.held[fresh]) == 0:
        yield "The search used all examples; none are held out."
        yield ""
        fresh = slice(None)
    held_by = {"none": final.clean, **final.by, "all of them": final.held}
    rows = [
        (name, f"{100 * float(np.mean(held[fresh])):.1f} %", str(len(held[fresh]))) for name, held in held_by.items()
    ]
    yield from (table(("attack", "robust accuracy", "examples"), rows, "markdown"), "")
