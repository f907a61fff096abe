"""The documentation runs: commands compose or run, programs run, tables name what there is."""

import dataclasses
import inspect
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from benchmark import api, registry
from benchmark.cli import main
from benchmark.commands.gate import UNDECIDED
from benchmark.config.check import check_fit
from benchmark.config.resolve import resolve
from benchmark.config.schema import ThreatSchema
from benchmark.hardening.measure import Pool
from benchmark.hardening.parts import parts
from benchmark.parsers.harden import overrides_first
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import Record
from benchmark.run import run
from benchmark.sweep import app, chosen
from benchmark.sweep.files import written_out
from benchmark.threat import Goal, RegionKind
from tests.core.cells import small_config
from tests.e2e.commands import benchmark
from tests.house.checkout import ROOT, docs_script, optional_packages
from tests.house.pages import PAGES, blocks, commands

COMMANDS = commands()
RUNS = [words for _, words in COMMANDS if words[:2] == ["benchmark", "run"] and "--help" not in words]
OTHERS = [
    words
    for _, words in COMMANDS
    if words[0] == "benchmark" and words not in RUNS and words[1] != "harden"  # minutes; tests/core/test_harden.py
]
KNOWN = {
    "awk",
    "benchmark",
    "make",
    "pip",
    "sbatch",
    "torchrun",
    "python",
    "python3",
    ".venv/bin/pip",
    "pre-commit",
    "eval",
    "export",
}
PLACEHOLDERS = {"attack=acme": "attack=pgd", "model@model.model=mynet": "model@model.model=mlp"}
"""Both are packages that the page has just written; tests/core/test_scaffold.py installs such ones and tests them."""


def show(words: list[str]) -> str:
    return shlex.join(words[1:])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished cell in `results`, `new` and `published`, and what the project publishes itself."""
    folder = tmp_path_factory.mktemp("docs")
    assert run(small_config(folder, examples=20)).status == "complete"
    shutil.copytree(folder / "results", folder / "new")
    shutil.copytree(folder / "results", folder / "other" / "results")
    (folder / "last-release" / "cells").mkdir(parents=True)
    shutil.copytree(ROOT / "leaderboard" / "results", folder / "leaderboard" / "results")
    packed = ["leaderboard", "pack", str(folder / "results" / "cells"), "--into", str(folder / "published")]
    assert main(packed) == 0  # commands are tried in any order, in several processes
    return folder


@pytest.fixture(scope="module")
def hydra() -> Iterator[None]:
    app.register()
    with initialize_config_module("benchmark.conf", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def test_there_are_commands_and_all_are_of_a_known_kind() -> None:
    assert len(RUNS) >= 20
    assert len(OTHERS) >= 8
    assert {words[0] for _, words in COMMANDS} <= KNOWN


def matrix(suite: str, job: list[str]) -> list[str]:
    """The first cell of a suite's own matrix, but for what the command chooses itself."""
    file = ROOT / "conf" / "suite" / f"{suite}.yaml"
    params = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params") if file.is_file() else None
    given = {word.partition("=")[0] for word in job}
    words = [f"{key}={str(of).split(',')[0]}" for key, of in (params or {}).items() if key not in given]
    return [word for word in words if not chosen.is_setting(word)]


@pytest.mark.parametrize("words", RUNS, ids=show)
@pytest.mark.usefixtures("hydra")
def test_every_run_composes_and_its_parts_fit(words: list[str]) -> None:
    given = [PLACEHOLDERS.get(w, w) for w in words[2:] if w not in ("-m", "--multirun", "--cfg", "job", "dry_run=true")]
    options = written_out(given)
    overrides = OverridesParser.create().parse_overrides(options)
    swept = any(o.is_sweep_override() for o in overrides)
    assert not swept or "-m" in words, "a matrix needs -m"
    suite = next((o.value() for o in overrides if o.key_or_group == "suite"), "none")
    settings = [o for o in overrides if chosen.is_setting(o.input_line or "")]
    (jobs,) = BasicSweeper.split_arguments([o for o in overrides if o not in settings], None)
    jobs = [[*matrix(str(suite), job), *job] for job in jobs]
    jobs = chosen.given_to(jobs, settings, lambda kind: {"attack": ["pgd"]}.get(kind, []), registry.names)
    for job in {" ".join(jobs[0]): jobs[0], " ".join(jobs[-1]): jobs[-1]}.values():
        with optional_packages():
            check_fit(resolve(compose("run", job)))


def test_every_search_composes() -> None:
    searches = [words[2:] for _, words in COMMANDS if words[:2] == ["benchmark", "harden"] and words[2:]]
    assert searches
    for words in searches:
        given = {words[at + 1] for at, word in enumerate(words) if word == "--protect"}
        stack = [part for text in sorted(given) for part in parts("defense", text)[:1]]
        pool = Pool(
            [word for word in overrides_first(words) if "=" in word and word not in given], parts("attack", "pgd")
        )
        check_fit(pool.config(stack, pool.attacks[0], 10))


@pytest.mark.parametrize("words", OTHERS, ids=show)
def test_every_other_command_runs(
    words: list[str], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words[:3] == ["benchmark", "plugins", "check"] and words[3] in ("attack.acme", "model.mynet"):
        pytest.skip("tests/core/test_scaffold.py installs such a package and runs its contract suite")
    if words[1] == "store":  # moves and deletes
        store = Path(shutil.copytree(store, tmp_path / "moved"))
        words = [word.replace("/data/results", "elsewhere/results") for word in words]
    if words[1] in ("plan", "work") or "--plan" in words:  # Hydra is one for a process
        small = ["model=linear", "training.epochs=1", "examples=8", "tracker=[]"]
        benchmark(tmp_path, "plan", "attack=fgsm", *small, "-o", "plan.jsonl")
        benchmark(tmp_path, *words[1:])
        return
    monkeypatch.chdir(store)
    if any("s3://" in word for word in words):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        words = [word.replace("s3://", "memory://docs/") for word in words]
        assert main(["store", "merge", "results", "--store", "memory://docs/lab/results"]) == 0
    (cell,) = Path("results/cells").iterdir()
    fine = {0, UNDECIDED} if words[1] == "gate" else {0}  # of twenty examples a gate can say no more
    assert main([word.replace("/KEY", f"/{cell.name}") for word in words[1:]]) in fine


def test_the_goals_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for _, words in COMMANDS:
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words


def test_the_scripts_that_are_named_exist() -> None:
    for _, words in COMMANDS:
        if words[0] == "python":
            assert (ROOT / words[1]).is_file(), words


PROGRAMS = [(page.name, at, body) for page in PAGES for at, body in enumerate(blocks(page, "python"))]


@pytest.mark.parametrize(
    ("name", "body"), [(name, body) for name, _, body in PROGRAMS], ids=[f"{name}-{at}" for name, at, _ in PROGRAMS]
)
def test_every_program_runs(
    name: str, body: str, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "from ._" in body:
        return  # the worked example of a plugin: tests/house/test_contributing.py
    monkeypatch.chdir(store)
    exec(compile(body, name, "exec"), {})
    assert "print" not in body or capsys.readouterr().out.strip()


def test_the_readme_reads_a_record_in_five_lines() -> None:
    (program,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in program.splitlines() if line]) == 5


# --- what is named is there, and what is there is named ---


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_signatures_of_every_stage_are_those_of_the_contracts() -> None:
    (block,) = [b for b in blocks(ROOT / "docs" / "writing-a-plugin.md", "text") if "defense.protect" in b]
    found = []
    for kind in ("dataset", "model", "poison", "attack", "defense", "certifier", "metric"):
        for name, value in vars(getattr(api, kind.capitalize())).items():
            if not name.startswith("_") and inspect.isfunction(value):
                said = str(inspect.signature(value)).replace("'", "")
                found.append(f"{kind}.{name}{said.replace('(self, ', '(').replace('(self)', '()')}")
    assert block.splitlines() == found


def test_the_catalogue_of_the_readme_is_current() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    with docs_script("catalogue") as script:
        made = script.table()
        assert script.filled(text, {script.MARK: made}) == text, "run: python docs/catalogue.py"
    assert made.count("\n") == 2 + sum(d.distribution == registry.DISTRIBUTION for d in registry.declared())


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_field_of_records_and_outcomes_is_explained() -> None:
    text = page("suites-and-records.md")
    for name in [*Record.model_fields, *(f.name for f in dataclasses.fields(Outcomes))]:
        assert f"`{name}`" in text, f"{name} is not explained in docs/suites-and-records.md"
    for model in ("system", "threat", "attack", "counts", "cost"):
        annotation = Record.model_fields[model].annotation
        fields = getattr(annotation, "model_fields", None) or next(
            a.model_fields for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")
        )
        for name in fields:
            assert f"`{name}`" in text, f"{model}.{name} is not explained in docs/suites-and-records.md"


def test_every_key_of_a_threat_is_explained() -> None:
    text = page("threat-models.md")
    for field in dataclasses.fields(ThreatSchema):
        assert f"`threat.{field.name}" in text, field.name
    for word in [*(g.value for g in Goal), *(k.value for k in RegionKind)]:
        assert f"`{word}`" in text, word


def test_every_stage_of_a_plugin_is_explained() -> None:
    from benchmark import api

    text = page("writing-a-plugin.md")
    for kind in registry.KINDS:
        cls = getattr(api, kind.capitalize())
        methods = [name for name, value in vars(cls).items() if callable(value) and not name.startswith("_")]
        for name in methods:
            if name not in ("files", "measure"):  # have useful defaults that few will change
                assert f"`{name}" in text, f"{kind}.{name} is not explained in docs/writing-a-plugin.md"


def test_every_hook_of_a_tracker_is_explained() -> None:
    from benchmark.hooks import hookspecs

    text = " ".join(page("writing-a-plugin.md").split())
    for name, hook in vars(hookspecs).items():
        if name.startswith("benchmark_"):
            arguments = ", ".join(inspect.signature(hook).parameters)
            assert f"{name}({arguments})" in text, name


def test_the_questions_of_the_design_name_files_that_exist() -> None:
    table = page("design.md").partition("## Where do I change")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) == 10  # one more question needs no file
    for row in rows:
        named = re.findall(r"`((?:benchmark|leaderboard|plugins)/[\w/]+\.py)`", row[2])
        assert named, row
        for file in named:
            assert (ROOT / file).is_file(), f"docs/design.md sends readers to {file}"
