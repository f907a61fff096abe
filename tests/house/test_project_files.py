"""Forms, workflows, hooks, citation and release checklist name what there is, and run what `make` runs."""

import dataclasses
import importlib.util
import re
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement

from tests.house.checkout import ROOT, files, project

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


# --- forms and owners ---


@pytest.mark.parametrize("file", [f for f in files() if f.parts[0] == ".github" and f.suffix == ".yml"], ids=str)
def test_every_file_of_the_host_parses(file: Path) -> None:
    assert isinstance(read(ROOT / file), dict)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_is_one_that_can_be_filled_in(form: Path) -> None:
    document = read(form)
    assert {"name", "description", "body"} <= set(document) <= {"name", "description", "labels", "body"}
    fields = [field for field in document["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) >= 3
    for field in fields:
        assert field["type"] in ("input", "textarea", "dropdown")
        assert set(field["attributes"]) <= {"label", "description", "placeholder", "render", "options"}
        assert field["attributes"]["label"]
        assert bool(field["attributes"].get("options")) == (field["type"] == "dropdown")


def test_there_are_the_three_forms() -> None:
    assert [form.stem for form in FORMS] == ["bug", "new_plugin", "wrong_number"]


def test_owners_own_what_exists() -> None:
    lines = (ROOT / ".github" / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    rules = [line.split() for line in lines if not line.startswith("#")]
    assert rules[0][0] == "*", "everything has an owner"
    for path, *owners in rules:
        assert owners
        assert all(owner.startswith("@") for owner in owners)
        assert path == "*" or (ROOT / path.strip("/")).exists(), path


@pytest.mark.parametrize("page", ["SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_commands_and_pages_that_are_named_exist(page: str) -> None:
    from benchmark.cli import main

    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:docs/[\w-]+\.\w+|[A-Z]{4,}\.md)", text):
        assert (ROOT / name).is_file(), name
    for words in re.findall(r"`benchmark ((?:leaderboard |plugins )?[a-z-]+)", text):
        with pytest.raises(SystemExit, match="0"):
            main([*words.split(), "--help"])


# --- workflows and hooks ---


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.stem)
def test_a_workflow_runs_what_make_runs(workflow: Path) -> None:
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert commands
    for command in commands:
        program, *goals = command.split()
        if program == "make":
            assert all(re.search(rf"^{goal}:", MAKEFILE, re.MULTILINE) for goal in goals), command
        else:
            assert command == ".ci/run"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.stem)
def test_a_workflow_has_no_more_rights_than_it_needs(workflow: Path) -> None:
    document = read(workflow)
    assert document["permissions"] == {"contents": "read"}
    granted = {name: job["permissions"] for name, job in document["jobs"].items() if "permissions" in job}
    assert granted == ({"publish": {"id-token": "write"}} if workflow.stem == "release" else {})
    text = workflow.read_text(encoding="utf-8")
    assert "pull_request_target" not in text
    assert "secrets." not in text


def test_the_release_publishes_what_was_rehearsed() -> None:
    document = read(ROOT / ".github" / "workflows" / "release.yml")
    rehearsed, published = document["jobs"]["rehearse"], document["jobs"]["publish"]
    assert rehearsed["env"]["TAG"] == "${{ github.ref_name }}"
    assert "$${TAG:+--tag" in MAKEFILE
    assert published["needs"] == "rehearse"
    assert not [step for step in published["steps"] if "run" in step or "checkout" in step["uses"]]


def test_every_python_that_is_declared_is_tested() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    matrix = jobs["versions"]["strategy"]["matrix"]
    tested = {*matrix["python"], *(extra["python"] for extra in matrix["include"])}
    declared = [c.rpartition(" ")[2] for c in project()["project"]["classifiers"] if "Python :: 3." in c]
    assert set(declared) <= tested
    assert project()["project"]["requires-python"] == f">={min(tested, key=lambda v: int(v[2:]))}"
    for constraints in [*matrix["constraints"], *(extra["constraints"] for extra in matrix["include"])]:
        assert (ROOT / constraints).is_file(), constraints


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    extras = project()["project"]["optional-dependencies"]
    requirements = [*project()["project"]["dependencies"], *extras["joblib"], *extras["slurm"]]
    expected = set()
    for requirement in map(Requirement, requirements):
        (lowest,) = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        expected.add(f"{requirement.name}=={lowest}")
    lines = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if not line.startswith("#")} == expected


def test_the_hooks_are_those_of_make_lint() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    assert all(hook["language"] == "system" for hook in hooks.values())
    linted = re.findall(r"\$\(BIN\)/((?:ruff|lint-imports|mypy) [^)\n]*)", MAKEFILE)
    ours = ("--check", "--fix", "--force-exclude", ".")
    bare = [[word for word in line.split() if word not in ours] for line in linted]
    found = [[word for word in hook["entry"].split() if word not in ours] for hook in hooks.values()]
    assert found == bare


# --- citation and release ---


def test_the_citation_is_of_this_version() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    assert citation["version"] == project()["project"]["version"]
    assert citation["license"] == project()["project"]["license"]


@pytest.fixture(scope="module")
def script() -> Any:
    """docs/rehearse.py as a module."""
    spec = importlib.util.spec_from_file_location("rehearse_script", ROOT / "docs" / "rehearse.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_the_checklist_explains_each_step_of_the_rehearsal(script: Any) -> None:
    text = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \*\*(.*?)\*\* \|", text, re.MULTILINE) == list(script.STEPS)


@pytest.fixture
def release(script: Any, tmp_path: Path) -> Any:
    """A release 1.2.0 that is fit, as far as its texts go."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("version: 1.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.0, 2026-01-31\n\n## 1.1.0, 2025-12-31\n")
    return script.Release(tmp_path, tmp_path, tmp_path, tmp_path, tmp_path / "none", "v1.2.0")


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("CITATION.cff", "version: 1.1.0\n", "CITATION.cff has not the version"),
        ("CHANGELOG.md", "## 1.1.0, 2025-12-31\n", "does not begin with 1.2.0"),
        ("CHANGELOG.md", "## 1.2.0, not yet released\n", "expected the day of the release"),
        ("pyproject.toml", '[project]\nversion = "1.3.0"\n', "CITATION.cff has not the version"),
    ],
)
def test_versions_that_disagree_are_seen(script: Any, release: Any, file: str, text: str, sentence: str) -> None:
    script.check_versions(release)
    (release.source / file).write_text(text)
    with pytest.raises(script.Unfit, match=sentence):
        script.check_versions(release)


def test_the_tag_is_the_version(script: Any, release: Any) -> None:
    with pytest.raises(script.Unfit, match=r"the tag is v1\.3\.0 and pyproject\.toml says 1\.2\.0; expected v1\.2\.0"):
        script.check_versions(dataclasses.replace(release, tag="v1.3.0"))


def test_the_versions_of_this_checkout_agree(script: Any, release: Any) -> None:
    script.check_versions(dataclasses.replace(release, source=ROOT, tag=None))


METADATA = (
    "Metadata-Version: 2.4\nName: a\nVersion: 1.2.0\nLicense-Expression: Apache-2.0\nLicense-File: LICENSE\n"
    "Description-Content-Type: text/markdown\n\n# A\n"
)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("1.2.0", "1.1.0", r"a-1.2.0-py3-none-any.whl says that it is 1\.1\.0; expected 1\.2\.0"),
        ("text/markdown", "text/plain", "has no Markdown description"),
        ("# A", "", "has no Markdown description"),
        ("License-Expression: Apache-2.0\n", "", "names no licence"),
    ],
)
def test_wrong_metadata_is_seen(script: Any, release: Any, old: str, new: str, sentence: str) -> None:
    def write(text: str) -> None:
        with zipfile.ZipFile(release.dist / "a-1.2.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("a-1.2.0.dist-info/METADATA", text)

    with tarfile.open(release.dist / "a-1.2.0.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("a-1.2.0/PKG-INFO")
        member.size = len(METADATA)
        archive.addfile(member, BytesIO(METADATA.encode()))
    write(METADATA)
    script.check_metadata(release)
    write(METADATA.replace(old, new))
    with pytest.raises(script.Unfit, match=sentence):
        script.check_metadata(release)
