"""The options of `benchmark plan`."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["run_plan"]


def run_plan(arguments: list[str]) -> int:
    """Write the sweep of a command line to a plan file; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="benchmark plan",
        description="Freeze a sweep in a file, for any number of tasks that run `benchmark work PLAN`. The words are "
        "those of `benchmark run -m`; a word such as quickstart alone is suite=quickstart.",
    )
    parser.add_argument("words", nargs="+", metavar="SUITE | GROUP=CHOICE,... | KEY=VALUE,...")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("plan.jsonl"), metavar="FILE", help="default: plan.jsonl"
    )
    options = parser.parse_args(arguments)
    words = [word if "=" in word else f"suite={word}" for word in options.words if not word.startswith("retry=")]
    from benchmark.sweep import app

    return app.plan(words, options.out)
