"""The Python interface: a model and arrays in memory, through the pipeline that the command line uses."""

import copy
import dataclasses
import gc
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

import benchmark
from benchmark import registry
from benchmark.errors import BenchmarkError, ConfigError, RecordError, Refused, SystemFault
from benchmark.oracles.linear import nearest_class_mean
from benchmark.records.paired import Kept, compared
from benchmark.records.record import read_record
from benchmark.records.tables import fitted
from benchmark.threat import Access, Norm, Threat, parse_eps
from tests.conftest import Runner

COUNT = 40


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 1, 8, 8) in [0, 1], and labels: the digits that the nearest class means were not taken from."""
    found = load_digits()
    x = torch.tensor(found.images[1297 : 1297 + COUNT, None] / 16.0, dtype=torch.float32)
    return x, torch.tensor(found.target[1297 : 1297 + COUNT])


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A linear classifier of the digits with exact margins."""
    problem = nearest_class_mean("digits")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.load_state_dict({"1.weight": problem.weight.float(), "1.bias": problem.bias.float()})
    return model


def evaluated(model: Any, data: tuple[Any, Any], attacks: Any = "fgsm", **options: Any) -> Any:
    return benchmark.evaluate(model, *data, attacks=attacks, threat="linf_01", progress=False, **options)


def test_the_number_is_that_of_the_exact_margins(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    result = evaluated(net, digits, [{"pgd": {"steps": 20}}, "fgsm"])
    problem = nearest_class_mean("digits")
    logits = digits[0].flatten(1).double() @ problem.weight.double().T + problem.bias.double()
    weight = problem.weight.double()
    lead = logits.gather(1, digits[1][:, None]) - logits
    push = (weight[digits[1]][:, None] - weight[None]).abs().sum(2)  # under linf the margin is lead / ||w_y - w_k||_1
    exact = torch.where(push > 0, lead / push.clamp_min(1e-12), torch.inf).amin(1)
    held = int((exact > 0.1).sum())
    assert result.robust_accuracy.value >= held / COUNT  # no attack gets beyond the margin
    assert result.robust_accuracy.value == pytest.approx(held / COUNT, abs=0.1)  # the box helps the system a little
    assert result.robust_accuracy.low < result.robust_accuracy.value < result.robust_accuracy.high
    assert result.clean_accuracy.value == pytest.approx(float((logits.argmax(1) == digits[1]).double().mean()))


def test_it_is_the_pipeline_with_its_record_outcomes_and_witness(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    result = evaluated(net, digits, store=tmp_path)
    cell = result[0]
    record = read_record(cell.folder)
    assert record == cell.record
    assert record.status == "complete"
    assert record.counts is not None
    assert {file.path for file in record.files} == {
        "outcomes.safetensors", "witness.safetensors", "gallery.safetensors"
    }  # fmt: skip
    assert record.system.name == "data/Sequential"
    ids, x_adv = cell.witness()
    assert len(ids) == int(cell.outcomes["broken"].sum()) > 0
    assert float(np.abs(x_adv - digits[0][ids].numpy()).max()) <= 0.1 + 1e-6
    with torch.no_grad():
        assert bool((net(torch.tensor(x_adv)).argmax(1) != digits[1][ids]).all())
    again = evaluated(net, digits, store=tmp_path)
    assert again[0].record == record  # with the seconds of the first: it was read from the store
    assert len(benchmark.read(tmp_path)) == 1


def test_the_model_is_left_as_it_was(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = evaluated(model, digits)
    assert model.training
    assert model[2].training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    names = {finding.name for finding in result.records[0].findings}
    assert names == {"own_code"}, "dropout was off"


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_gets_inputs_of_its_own(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor], kind: torch.dtype
) -> None:
    usual, other = evaluated(net, digits), evaluated(copy.deepcopy(net).to(kind), digits)
    assert usual.robust_accuracy.value == pytest.approx(other.robust_accuracy.value, abs=0.03)
    assert usual.clean_accuracy.value == pytest.approx(other.clean_accuracy.value, abs=0.03)
    assert {finding.name for finding in other.records[0].findings} == {"own_code", "cast_at_the_border"}


def test_two_models_with_other_weights_are_two_cells_of_one_store(
    digits: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    for model in made:
        evaluated(model, digits, store=tmp_path)
        evaluated(lambda x, model=model: model(x), digits, store=tmp_path)
    assert len({record.system.key for record in benchmark.read(tmp_path).records}) == 4


# --- inputs ---


def test_ranges_and_layouts_change_no_outcome(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    x = torch.round(digits[0] * 255) / 255
    plain = evaluated(net, (x, digits[1]))
    flat = evaluated(net, (x.flatten(1), digits[1]))
    signed = evaluated(lambda v: net((v + 1) / 2), (2 * x - 1, digits[1]), bounds=(-1, 1))
    grey = evaluated(lambda v: net(v[:, None]), (x[:, 0], digits[1]), layout="NHW")
    bytes_last = evaluated(
        lambda v: net(v.permute(0, 3, 1, 2) / 255),
        ((x * 255).round().to(torch.uint8).permute(0, 2, 3, 1), digits[1]),
        bounds=(0, 255),
        layout="NHWC",
    )
    normal = evaluated(lambda v: net(v * 0.4 + 0.3), ((x - 0.3) / 0.4, digits[1]), bounds={"mean": 0.3, "std": 0.4})
    for other in (flat, signed, grey, bytes_last, normal):
        assert (other.robust == plain.robust).all()
    assert "25.5 in the units of your inputs" in bytes_last.notes[0]
    assert "0.2 in the units of your inputs" in signed.notes[0]
    assert "0.25 in the units of your inputs" in normal.notes[0]


def test_images_of_28_pixels_and_a_radius_in_their_units() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    x = torch.randint(0, 256, (20, 28, 28), dtype=torch.uint8)
    y = model(x[:, None] / 1.0).argmax(1)
    result = benchmark.evaluate(
        lambda v: model(v[:, None]), x, y, "fgsm", "linf", eps=2, bounds=(0, 255), layout="NHW", progress=False
    )
    assert result[0].record.threat.eps_exact == "2/255"
    assert result.clean_accuracy.value == 1.0
    assert result.robust_accuracy.value < 1.0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bounds": (0, 0.5)}, "outside its bounds"),
        ({"bounds": (1, 0)}, "expected \\(low, high\\)"),
        ({"bounds": {"mean": 0.5}}, "expected mean and std"),
        ({"layout": "CHW"}, "layout is 'CHW'; expected one of NCHW"),
        ({"layout": "NHW"}, "expected 3 axes"),
        ({"answers": "scores"}, "answers is 'scores'; expected one of logits"),
        ({"attacks": "pdg"}, "Did you mean attack.pdpgd, attack.pgd"),
        ({"attacks": []}, "attacks is empty"),
        ({"threat": "linf_9"}, "no threat named 'linf_9'"),
        ({"threat": "linf"}, "set eps too"),
        ({"device": "tpu"}, "expected cpu or cuda"),
        ({"classes": 7}, "the model returns 10 scores"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BenchmarkError, match=sentence):
        benchmark.evaluate(net, *digits, **{"threat": "linf_01", "progress": False, **changes})


def test_labels_must_be_whole_numbers_from_0(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = digits
    for labels in (y - 1, y.float(), nn.functional.one_hot(y, 10), y[:-1]):
        with pytest.raises(ConfigError, match="whole numbers from 0"):
            evaluated(net, (x, labels))
    with pytest.raises(ConfigError, match="the labels go up to 10, but the model has 10 classes"):
        evaluated(net, (x, y + 1))
    with pytest.raises(ConfigError, match="layout='NHWC'"):
        evaluated(net, (x.permute(0, 2, 3, 1), y))


# --- answers ---


@dataclasses.dataclass
class Answer:
    scores: torch.Tensor
    features: torch.Tensor


def test_answers_are_adapted_by_a_declared_rule(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    plain = evaluated(net, digits)
    pair = namedtuple("pair", "scores features")
    forms: list[tuple[Any, int | str, str]] = [
        (lambda x: (x, net(x)), 1, "a tuple of 2"),
        (lambda x: {"logits": net(x), "hidden": x}, "logits", "a dict of 'logits', 'hidden'"),
        (lambda x: Answer(net(x), x), "scores", "a Answer with scores, features"),
        (lambda x: pair(net(x), x), "scores", "a pair with scores, features"),
    ]
    for model, output, said in forms:
        assert (evaluated(model, digits, output=output).robust == plain.robust).all()
        with pytest.raises(SystemFault, match=said):
            evaluated(model, digits)
        with pytest.raises(SystemFault, match=said):
            evaluated(model, digits, output="nothing")
    likely = evaluated(lambda x: net(x).softmax(1), digits, answers="probabilities")
    assert (likely.robust == plain.robust).all()
    with pytest.raises(SystemFault, match="declare answers='logits'"):
        evaluated(net, digits, answers="probabilities")


def test_two_classes_with_one_logit(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    x = digits[0]
    torch.manual_seed(0)
    last = nn.Linear(64, 2)
    with torch.no_grad():
        last.weight[0], last.bias[0] = 0.0, 0.0
    two = nn.Sequential(nn.Flatten(), last)
    y = two(x).argmax(1)
    for model in (lambda v: two(v)[:, 1:], lambda v: two(v)[:, 1]):
        one = evaluated(model, (x, y), answers="logit")
        assert (one.robust == evaluated(two, (x, y)).robust).all()
        assert 0 < one.robust_accuracy.value < 1
    with pytest.raises(SystemFault, match="answers='logit'"):
        evaluated(lambda v: two(v)[:, 1:], (x, y))


def test_a_scikit_learn_model_with_labels_takes_query_attacks_alone(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    found = load_digits()
    model = LogisticRegression(max_iter=300).fit(found.data[:1297] / 16.0, found.target[:1297])
    x, y = digits[0].flatten(1).numpy()[:12].astype(np.float64), digits[1].numpy()[:12]
    result = benchmark.evaluate(
        model.predict, x, y, [{"pointwise": {}}, "pgd_10"], Threat(Norm.l0, parse_eps(8)), answers="labels",
        classes=10, progress=False,
    )  # fmt: skip
    assert [record.status for record in result.records] == ["complete", "refused"]
    assert "attack.pgd" in str(result.records[1].error)
    assert result.records[0].threat.access == "labels"
    assert "answers with labels" in result.notes[1]
    assert result.robust_accuracy.value < result.clean_accuracy.value
    with pytest.raises(Refused, match=r"attack.fgsm needs gradients, but threat.access is labels"):
        evaluated(model.predict, (x, y), answers="labels")
    scores = evaluated(model.predict_proba, (x, y), {"square": {"queries": 50}}, answers="probabilities")
    assert scores.records[0].threat.access == "scores"


# --- attacks, defenses ---


def test_attacks_by_name_by_settings_and_as_objects_are_the_same(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pgd: Any = registry.load("attack", "pgd")
    adaptive: Any = registry.load("attack", "adaptive")
    result = evaluated(net, digits, ["pgd_10", {"pgd": {"steps": 10}}, pgd(steps=10), "pgd"])
    steps = [record.attack.params["steps"] for record in result.records]
    assert steps == [10, 10, 10, 40]
    assert result.records[0].key == result.records[2].key
    assert "pgd [steps=40]" in result.table()
    assert evaluated(net, digits, adaptive()).records[0].attack.params  # the attacks inside it are the default ones
    with pytest.raises(BenchmarkError, match="is not a valid attack"):
        evaluated(net, digits, 3)


def test_defenses_act_and_those_that_train_are_refused(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    squeezed = evaluated(net, digits, defenses="bit_depth")
    assert squeezed.records[0].system.defenses == ["bit_depth"]
    with pytest.raises(Refused, match=r"model.given is not trained by gradients"):
        evaluated(net, digits, defenses="adversarial_training")
    with pytest.raises(Refused, match="takes its threshold from clean examples of the select split"):
        evaluated(net, digits, defenses="max_softmax")
    assert evaluated(net, digits, defenses="max_softmax", select=digits).records[0].status == "complete"


# --- results ---


def test_the_curve_falls_from_the_clean_to_the_robust_accuracy(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    result = evaluated(net, digits, "fmn")
    curve = result.curve()
    assert (np.diff(curve.accuracy) <= 0).all()
    assert curve.accuracy[0] == result.clean_accuracy.value
    assert result.curve([0.1]).accuracy[0] == result.robust_accuracy.value
    assert curve.accuracy[-1] == 0.0  # an attack for the smallest perturbation looks beyond the radius
    assert ((curve.low <= curve.accuracy) & (curve.accuracy <= curve.high)).all()
    bounded = evaluated(net, digits, "fgsm")
    assert bounded.curve().eps[-1] == pytest.approx(0.1)
    with pytest.raises(ConfigError, match=r"larger than the threat's 0.1"):
        bounded.curve([0.2])


def test_tables_frames_and_pages(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    result = evaluated(net, digits, ["fgsm", "bim"], store=tmp_path)
    robust = result.robust_accuracy
    assert str(robust) in result.table()
    assert result.table("text").splitlines()[-1].startswith("worst case")
    assert result.table("latex").count(r"\\") == 4
    assert rf"{100 * robust.value:.1f} \%" in result.table("latex")
    assert result.table("csv").startswith("attack,threat,robust accuracy")
    assert result.table("markdown").splitlines()[1].startswith("| --- |")
    with pytest.raises(ConfigError, match="expected one of text, csv, markdown, latex"):
        result.table("html")
    frame = result.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["attack"]) == ["fgsm", "bim"]
    assert frame["robust_accuracy"].min() >= robust.value
    stored = benchmark.read(tmp_path).to_frame()
    assert set(stored["key"]) == set(frame["key"])
    page = result._repr_html_()
    assert "data:image/png;base64," in page
    assert "<script" not in page
    assert f"{100 * robust.value:.1f} %" in page


def test_a_frame_without_pandas_names_the_line_to_type(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(BenchmarkError, match="pip install pandas"):
        evaluated(net, digits).to_frame()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'adversarial-benchmark\[plot\]'"):
        evaluated(net, digits).plot()


def test_the_curve_is_drawn(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = evaluated(net, digits, "fmn").plot()
    assert axes.get_ylabel() == "robust accuracy"
    assert len(axes.lines[0].get_xdata()) > 2


def test_results_go_with_their_folder_unless_it_was_asked_for(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    kept, lost = evaluated(net, digits, store=tmp_path), evaluated(net, digits)
    folders = kept.folder, lost.folder
    assert all((folder / "cells").is_dir() for folder in folders)
    del kept, lost
    gc.collect()
    assert (folders[0] / "cells").is_dir()
    assert not folders[1].exists()


def test_compare_is_the_exact_paired_test(net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    half = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    half.load_state_dict(net.state_dict())
    with torch.no_grad():
        half.get_parameter("1.weight").add_(0.3 * torch.randn(10, 64, generator=torch.Generator().manual_seed(0)))
    a, b = evaluated(net, digits), evaluated(half, digits)
    found = benchmark.compare(a, b)
    assert set(found.only_first) == {int(i) for i in np.flatnonzero(a.robust & ~b.robust)}
    assert set(found.only_second) == {int(i) for i in np.flatnonzero(b.robust & ~a.robust)}
    assert found.difference.value == pytest.approx(a.robust_accuracy.value - b.robust_accuracy.value)
    with pytest.raises(RecordError, match="have different examples"):
        benchmark.compare(a, evaluated(net, (digits[0][:20], digits[1][:20])))


def test_the_p_value_is_the_binomial_one() -> None:
    from scipy.stats import binomtest

    first, second = np.array([True] * 9 + [False] * 2 + [True] * 9), np.array([False] * 9 + [True] * 2 + [True] * 9)
    found = compared(*(Kept(name, "", np.arange(20), robust, "linf") for name, robust in (("a", first), ("b", second))))
    assert found.p_value == pytest.approx(binomtest(9, 11).pvalue)
    assert found.difference.value == pytest.approx(7 / 20)
    assert found.difference.low < 7 / 20 < found.difference.high
    assert "9 robust only in the first, 2 only in the second" in str(found)


def test_no_disagreement_among_few_examples_does_not_prove_that_there_is_none() -> None:
    from scipy.stats import binomtest

    found = compared(*(Kept(name, "", np.arange(5), np.ones(5, dtype=bool), "linf") for name in ("a", "b")))
    most = binomtest(0, 5).proportion_ci(method="exact").high
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx((0.0, -most, most))


def test_a_table_is_cut_into_blocks_that_fit() -> None:
    text = fitted(["system", *(f"column {n}" for n in range(9))], [["mine", *("1234567" for _ in range(9))]], 40)
    assert max(len(line) for line in text.splitlines()) <= 40
    assert text.count("mine") == text.count("system") > 1


FIVE_LINES = """
import benchmark, sys, torch
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
x, y = torch.rand(20, 64), torch.randint(10, (20,))
result = benchmark.evaluate(net, x, y, attacks=["pgd_10"])
print(result.robust_accuracy)
heavy = ("pytorch_lightning", "lightning_fabric", "hydra", "wandb", "pandas", "benchmark_leaderboard")
sys.exit(str([name for name in heavy if name in sys.modules]))
"""


def test_nothing_heavy_is_imported(run_python: Runner) -> None:
    done = run_python("-c", FIVE_LINES)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    assert done.stdout.startswith(("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"))
    assert "attack pgd: 20 of 20 examples" in done.stderr
    listed = run_python("-c", "import benchmark, sys; benchmark.read; sys.exit('torch' in sys.modules)")
    assert listed.returncode == 0, "reading records imports no torch"


def test_access_of_a_threat_is_kept_where_the_model_gives_more(
    net: nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    result = benchmark.evaluate(
        net, *digits, {"square": {"queries": 20}}, Threat(eps=parse_eps("1/10"), access=Access.scores), progress=False
    )
    assert result.records[0].threat.access == "scores"
    assert len(result.notes) == 1
