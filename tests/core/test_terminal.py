"""Answers of the terminal from records alone: status, compare, table, stored results and dry runs."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.commands.compare import main as compare
from benchmark.commands.status import matrix
from benchmark.errors import BenchmarkError
from benchmark.records.naming import apart, natural, own_name, variant_name
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.records.summary import figures_of, in_order, robust_of
from benchmark.run import run
from benchmark.threat import Threat, parse_eps
from tests.conftest import Runner
from tests.core.cells import plugin, small_config


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two systems under FGSM at three radii and PGD in two settings, and a cell that was refused."""
    folder = tmp_path_factory.mktemp("terminal")
    base = small_config(folder, examples=40)
    jpeg = dataclasses.replace(base, defenses=(plugin("defense", "bit_depth"),))
    for system in (base, jpeg):
        for eps in ("1/10", "1/100", "1/50"):
            assert run(system.under(Threat(eps=parse_eps(eps)))).status == "complete"
    for steps in (2, 5):
        assert run(dataclasses.replace(base, attack=plugin("attack", "pgd", steps=steps))).status == "complete"
    assert run(dataclasses.replace(base, attack=plugin("attack", "jsma"))).status == "refused"
    return folder / "results"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def test_the_matrix_has_accuracies_with_intervals_and_radii_in_order(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = said(capsys, "status", "--store", str(root))
    head, *rows = shown.splitlines()
    columns = re.split(r"  +", head)
    assert columns[1:4] == ["fgsm linf 1/100", "fgsm linf 1/50", "fgsm linf 1/10"]
    assert columns[-2:] == ["pgd [steps=2] linf 1/10", "pgd [steps=5] linf 1/10"]
    (record,) = [r for r in Store(root).records() if r.attack.params.get("steps") == 2]
    found = robust_of(record)
    assert found is not None
    assert re.split(r"  +", rows[0])[-2] == f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"
    assert "refused" in rows[0]
    assert "missing" in rows[1]
    assert "8 complete, 1 refused" in shown


def test_the_matrix_fits_the_window(root: Path) -> None:
    records = Store(root).records()
    whole, narrow = matrix(records), matrix(records, 70)
    assert max(map(len, whole.splitlines())) > 70 >= max(map(len, narrow.splitlines()))
    for word in set(re.split(r"  +|\n", whole)):
        assert word in narrow


def test_several_seeds_are_a_mean(root: Path, tmp_path: Path) -> None:
    (one, *_) = [r for r in Store(root).records() if r.status == "complete"]
    other = one.model_copy(update={"seed": 1, "key": "0" * 24})
    found = robust_of(one)
    assert found is not None
    assert f"{100 * found.value:.1f} (mean of 2)" in matrix([one, other])


def test_status_lists_cells_and_repeats_no_finding(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "status", "--store", str(root), "--cells").splitlines()
    assert re.split(r"  +", lines[0])[:3] == ["key", "system", "threat"]
    keys = {record.key[:8] for record in Store(root).records()}
    assert {line[:8] for line in lines[1 : 1 + len(keys)]} == keys


def test_compare_is_paired_and_names_what_must_be_chosen(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "digits/linear", "digits/linear+bit_depth", "--store", str(root)]
    with pytest.raises(BenchmarkError, match="under several threats"):
        compare("digits/linear", "digits/linear+bit_depth", root)
    text = said(capsys, *words, "--threat", "linf 1/50", "--attack", "fgsm")
    assert re.search(r"exact McNemar p = ", text)
    assert "robust only in the first" in text
    key = next(r.key for r in Store(root).records() if r.attack.params.get("steps") == 5)
    same = said(capsys, "compare", key[:10], str(root / "cells" / key), "--store", str(root))
    assert "p = 1: no difference is shown" in same
    assert main(["compare", "nothing", key, "--store", str(root)]) == 2
    assert "benchmark status --cells lists them" in capsys.readouterr().err


def test_table_has_a_row_per_cell_in_every_format(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "table", "--store", str(root))
    assert len(text.splitlines()) == 1 + 9
    csv = said(capsys, "table", "--store", str(root), "--format", "csv").splitlines()
    assert csv[0] == "system,threat,attack,seed,robust accuracy,clean accuracy,passes,seconds,status"
    latex = said(capsys, "table", "digits/linear+bit_depth", "--store", str(root), "--format", "latex")
    assert latex.count(r"digits/linear+bit\_depth") == 3
    assert main(["table", "--store", str(root / "none")]) == 2


def test_records_are_read_without_torch(root: Path, run_python: Runner) -> None:
    code = (
        "import sys\nfrom benchmark.cli import main\nassert main(sys.argv[1:]) == 0\n"
        "sys.exit(str([m for m in ('torch', 'hydra', 'pandas') if m in sys.modules]))"
    )
    for words in (["status"], ["table"], ["compare", "digits/linear", "digits/linear", "--threat", "linf 1/50"]):
        done = run_python("-c", code, *words, "--store", str(root))
        assert done.stderr.strip() == "[]", done.stderr


def test_names_tell_settings_apart_by_as_few_as_it_takes() -> None:
    settings = [
        {"params": {"steps": 10, "loss": "ce"}}, {"params": {"steps": 40, "loss": "ce"}},
        {"params": {"steps": 40, "loss": "margin"}},
    ]  # fmt: skip
    assert apart(["pgd"] * 3, settings) == [
        "pgd [loss=ce, steps=10]", "pgd [loss=ce, steps=40]", "pgd [loss=margin, steps=40]"
    ]  # fmt: skip
    assert apart(["pgd", "pgd", "fgsm"], [settings[0], settings[0], settings[1]]) == ["pgd", "pgd", "fgsm"]
    digest = {"weights": "sha256:" + "ab" * 32}
    assert apart(["m", "m"], [{"model": digest}, {"model": {"weights": ""}}]) == ["m [weights=abababab]", "m"]


def test_what_runs_a_library_is_named_by_what_it_runs_of_it() -> None:
    assert variant_name("foolbox", {"method": "LinfPGD", "args": {"steps": 10}}) == "foolbox LinfPGD"
    assert variant_name("pyautoattack", {"method": "apgd-ce"}) == "pyautoattack apgd-ce"
    assert own_name("sklearn", {"estimator": "SVC", "mebibytes": 8}) == "sklearn SVC"
    assert variant_name("pgd", {"steps": 10}) == "pgd"
    for text in (
        "X + adversarial_training",
        "",
        "a" * 61,
        "mlp\n",
        3,
        None,
    ):  # a record of somebody else may say anything
        assert variant_name("foolbox", {"method": text}) == "foolbox"


def test_a_cell_of_a_library_has_one_name_before_and_after(tmp_path: Path) -> None:
    config = small_config(tmp_path, model=plugin("model", "sklearn"), examples=20)
    assert config.name == "digits/sklearn LogisticRegression fgsm linf 1/10 seed 0"
    assert run(config).status == "complete"
    (record,) = Store(tmp_path / "results").records()
    assert record.name == config.name


def test_a_stored_single_run_prints_its_result_and_a_dry_run_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "model=linear", "training.epochs=1", "attack=fgsm", "examples=20", "tracker=[console]"]
    plan = said(capsys, *words, "dry_run=true")
    assert plan == (
        "to do  digits/linear [training.epochs=1] fgsm linf 1/10 seed 0: 20 examples, one pass each, after training "
        "for at most 1 epochs\n"
    )
    assert not (tmp_path / "results").exists()
    said(capsys, *words)
    (record,) = Store(tmp_path / "results").records()
    name = record.name.replace(" ", " [training.epochs=1] ", 1)
    assert said(capsys, *words) == f"[stored] {name}: robust {robust_of(record)}\n"
    plan = said(capsys, *words, "dry_run=true")
    assert plan == f"stored  {name}: complete, robust {robust_of(record)}\n"
    plans = said(capsys, *words[:-3], "-m", "attack=fgsm,jsma,pgd", "examples=30", "tracker=[]", "dry_run=true")
    assert re.search(r"^to do .*fgsm.*: 30 examples, about 1 passes each; .* s \(as in ", plans, re.MULTILINE)
    assert re.search(r"^refused .*jsma perturbs under", plans, re.MULTILINE)
    assert re.search(r"^to do .*pgd.*: 30 examples, at most 40 passes each$", plans, re.MULTILINE)
    assert len(Store(tmp_path / "results").records()) == 1
    plan = said(capsys, *words[:3], "attack=deepfool", "examples=30", "threat.queries=1000", "dry_run=true")
    assert ": 30 examples, at most 1000 passes each, the budget\n" in plan
    plan = said(capsys, *words[:3], "defense=[ensemble]", "attack=pgd_10", "examples=30", "dry_run=true")
    assert ": 30 examples, at most 30 passes each, after training" in plan  # three members
    plan = said(capsys, *words[:3], "attack=none", "examples=30", "dry_run=true")
    assert ": 30 examples, no pass each, after training" not in plan
    assert ": 30 examples, no pass each\n" in plan
    plans = said(capsys, *words[:-3], "-m", "attack=pgd,pgd_10", "training.epochs=1,2", "tracker=[]", "dry_run=true")
    assert re.findall(r"^to do +(.*?): ", plans, re.MULTILINE) == [
        f"digits/linear [training.epochs={epochs}] pgd linf 1/10 seed 0{variant}"
        for epochs in (1, 2)
        for variant in ("", " [attack=pgd_10]")
    ]


def test_a_setting_on_the_command_line_replaces_all_values_of_the_suite_and_repeats_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "suite=distillation_digits", "attack=jsma", "dry_run=true", "tracker=[]"]
    assert len(said(capsys, *words).splitlines()) == 7
    assert len(said(capsys, *words, "defense.distillation.temperature=10").splitlines()) == 1
    two = said(capsys, *words, "defense.distillation.temperature=10,30")
    assert re.findall(r"\[defense\.distillation\.temperature=(\d+)\]", two) == ["10", "30"]


def test_named_settings_of_a_folder_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "mine.yaml").write_text("defaults: [pgd, _self_]\nsteps: 3\n")
    shown = said(capsys, "plugins", "attack", "--config-dir", str(tmp_path))
    assert f"named settings in {tmp_path}: attack=mine" in shown
    assert re.search(r"^named settings: attack=.*pgd_10", shown, re.MULTILINE)
    assert main(["plugins", "--config-dir", str(tmp_path / "none")]) == 2
    words = ["run", "--config-dir", str(tmp_path), "attack=mine", "examples=20", "model=linear", "dry_run=true"]
    assert "seed 0 [attack=mine]: 20 examples, at most 3 passes each" in said(capsys, *words)
    words[3:4] = ["attack=cascade", "attack.members=[fgsm,mine]"]
    assert "linear cascade linf 1/10 seed 0 [attack.members=[fgsm,mine]]: " in said(capsys, *words)


def test_certifiers_and_detectors_have_figures(tmp_path: Path) -> None:
    base = small_config(tmp_path, examples=40)
    cell = dataclasses.replace(base, defenses=(plugin("defense", "max_softmax"),))
    bare = dataclasses.replace(base, certifiers=(plugin("certifier", "exact"),))
    for config, expected in ((bare, ["certified"]), (cell, ["refused"])):
        result = run(config)
        folder = tmp_path / "results" / "cells" / result.key
        figures = figures_of(read_record(folder), folder)
        assert [figure.split()[0] for figure in figures] == expected
    plain = run(base)
    folder = tmp_path / "results" / "cells" / plain.key
    assert figures_of(read_record(folder), folder) == []
    assert in_order([read_record(folder)])


def test_numbers_in_names_are_in_order_of_their_values() -> None:
    names = ["pgd", "pgd [steps=9]", "pgd [steps=10, loss=ce]", "pgd [steps=100]", "square"]
    assert sorted(names, key=natural) == names
    assert sorted(names) != names


def test_relative_paths_mean_the_folder_of_the_shell_whatever_hydra_changes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    x, y = draw.random((60, 1, 4, 4), dtype=np.float32), np.arange(60) % 2
    np.savez("d.npz", x_train=x[8:], y_train=y[8:], x_test=x[:8], y_test=y[:8])
    np.save("mask.npy", np.ones((1, 4, 4), dtype=bool))
    once = ["run", "model=linear", "training.epochs=1", "dataset=arrays", "dataset.path=d.npz", "attack=fgsm",
            "threat.region.kind=file", "threat.region.path=mask.npy", "tracker=[]"]  # fmt: skip
    for place, words in (("one", once), ("many", [*once, "-m", "hydra.job.chdir=true"]),
                         ("single", [*once, "hydra.job.chdir=true"])):  # fmt: skip
        assert main([*words, f"store.root={place}"]) == 0
    keys = {place: [record.key for record in Store(tmp_path / place).records()] for place in ("one", "many", "single")}
    assert keys["one"] == keys["many"] == keys["single"]
    assert len(keys["one"]) == 1


@pytest.mark.parametrize("word", ["attack.step_size=inf", "training.learning_rate=inf", "training.weight_decay=nan"])
def test_a_setting_that_is_not_finite_is_refused(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "model=linear", "attack=pgd", "tracker=[]", word]) == 2
    name, _, value = word.partition("=")
    assert f"{name} is {value}; expected a finite number" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("system.init_from=weights.safetensors", "does not contain weights of this model (Error while deserializing"),
        ("trainer.devices=0", "trainer.devices is 0; expected at least 1"),
        ("threat.region.path=mask.npy", "or non-finite values; expected bool"),
        ("threat.eps=1/0", "threat.eps is '1/0'; expected a fraction such as 8/255"),
        ("threat.eps=[0.1]", "threat.eps=[0.1]: Cannot convert 'list' to string"),
        ("trainer.nodes=-1", "trainer.nodes is -1; expected at least 1"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_exit_code_2(
    word: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.safetensors").write_text("nothing")
    np.save("mask.npy", np.full((1, 8, 8), np.nan))
    kind = ["threat.region.kind=file"] if "region" in word else []
    assert main(["run", "model=linear", "training.epochs=1", "attack=fgsm", "tracker=[]", *kind, word]) == 2
    assert sentence in capsys.readouterr().err
