"""The example workflow checks the pull request as data: base branch, no secrets, nothing interpolated into a shell."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.house.checkout import ROOT
from tests.leaderboard.made_submission import Spoiler, made_submission

FOLDER = ROOT / "docs" / "examples"


def workflow(name: str) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return document


def runs(document: dict[Any, Any]) -> list[str]:
    return [step["run"] for job in document["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("name", ["check-submission.yml", "post-review.yml"])
def test_nothing_of_a_stranger_reaches_a_shell_or_a_secret(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert "pull_request_target" not in text
    assert "secrets." not in text
    assert not [run for run in runs(workflow(name)) if "${{" in run]


def test_the_check_runs_the_base_branch_and_can_write_nothing() -> None:
    document = workflow("check-submission.yml")
    assert set(document[True]) == {"pull_request"}, "YAML reads `on` as true"
    assert document["permissions"] == {"contents": "read"}
    (job,) = document["jobs"].values()
    assert "permissions" not in job
    checkouts = {s["with"]["path"]: s["with"] for s in job["steps"] if "checkout" in s.get("uses", "")}
    assert checkouts["base"]["ref"].endswith("base.sha }}")
    assert checkouts["head"]["ref"].endswith("head.sha }}")
    assert checkouts["head"]["sparse-checkout"] == "submissions"
    assert all(options["persist-credentials"] is False for options in checkouts.values())
    installed = [run for run in runs(document) if "pip install" in run]
    assert installed
    assert not [run for run in installed if "head" in run]


def test_the_workflow_that_writes_checks_out_nothing() -> None:
    document = workflow("post-review.yml")
    assert set(document["permissions"]) == {"actions", "pull-requests"}
    assert not [s for job in document["jobs"].values() for s in job["steps"] if "checkout" in s.get("uses", "")]


def test_the_step_that_checks_works(tmp_path: Path) -> None:
    """Run the shell of the step itself: one submission is new and sound, one is known, one is hostile."""
    head, base = tmp_path / "head" / "submissions", tmp_path / "base" / "submissions"
    made_submission(tmp_path / "store1", head / "sound")
    made_submission(tmp_path / "store2", head / "known.zip", model="other")
    base.mkdir(parents=True)
    shutil.copyfile(head / "known.zip", base / "known.zip")
    (script,) = [run for run in runs(workflow("check-submission.yml")) if "leaderboard check" in run]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "HOME": str(tmp_path),
    }  # fmt: skip

    def step() -> tuple[int, str]:
        done = subprocess.run(["bash", "-c", script], check=False, cwd=tmp_path, env=environment, capture_output=True)
        return done.returncode, (tmp_path / "review.md").read_text(encoding="utf-8")

    status, review = step()
    assert status == 0
    assert re.findall("^## .*$", review, re.MULTILINE) == ["## Can be accepted"]
    Spoiler(head / "sound").manifest(lambda d: d["files"].pop())
    status, review = step()
    assert status == 1
    assert review.startswith("## Refused")
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").endswith(review)
