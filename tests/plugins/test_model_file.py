"""A model of a file: the user's own code and weights, known by their content, in every format."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import DataSpec
from benchmark.config.cell import RunConfig
from benchmark.errors import BenchmarkError, ConfigError, DataError
from benchmark.records.record import read_record
from benchmark.run import run
from benchmark.sweep.files import written_out
from tests.core.cells import plugin, small_config

SPEC = DataSpec((1, 8, 8), 10)

NET = """
import dataclasses

from torch import nn

from layers import head


@dataclasses.dataclass
class Output:
    scores: object


class MyNet(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.body = nn.Linear(64, width)
        self.head = head(width)

    def forward(self, x):
        return self.head(self.body(x.flatten(1)).relu())


def factory(spec, width=4):
    net = MyNet(width)
    net.classes = spec.classes
    return net


class Wrapped(MyNet):
    def forward(self, x):
        return Output(super().forward(x))


class Double:
    pass


def number():
    return 3
"""

LAYERS = "from torch import nn\n\n\ndef head(width):\n    return nn.Linear(width, 10)\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with net.py, what it imports, and weights in every format."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "layers.py").write_text(LAYERS)
    torch.manual_seed(0)
    net = made(tmp_path).build(SPEC).asked
    state = net.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 1}, tmp_path / "checkpoint.pth")
    (tmp_path / "folder").mkdir()
    save_file(state, tmp_path / "folder" / "model.safetensors")
    (tmp_path / "folder" / "config.json").write_text("{}")
    return tmp_path


def made(home: Path, factory: str = "MyNet", **settings: Any) -> Any:
    places = {name: str(home / settings.pop(name)) for name in ("weights",) if name in settings}
    return plugin("model", "file", path=str(home / "net.py"), factory=factory, **places, **settings)


def answers(model: Any, x: Tensor) -> Tensor:
    module = model.build(SPEC)
    module.load_state_dict(model.pretrained(SPEC) or module.state_dict())
    with torch.no_grad():
        said: Tensor = module.eval()(x)
    return said


def test_every_format_of_weights_gives_the_same_scores(home: Path) -> None:
    x = torch.rand(5, 1, 8, 8)
    expected = answers(made(home, weights="w.pt"), x)
    for settings in (
        {"weights": "w.safetensors"},
        {"weights": "folder"},
        {"weights": "checkpoint.pth", "entry": "state_dict", "prefix": "module."},
    ):
        assert torch.equal(answers(made(home, **settings), x), expected), settings


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, which people's files are in all the same
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_programs_bring_their_own_code(home: Path) -> None:
    x = torch.rand(5, 1, 8, 8)
    expected = answers(made(home, weights="w.pt"), x)
    net = made(home, weights="w.pt").build(SPEC)
    net.load_state_dict(made(home, weights="w.pt").pretrained(SPEC))
    torch.jit.trace(net.asked.eval(), x).save(str(home / "script.pt"))
    exported = torch.export.export(net.asked, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, home / "program.pt2")
    for name in ("script.pt", "program.pt2"):
        model = plugin("model", "file", weights=str(home / name))
        assert torch.allclose(answers(model, x), expected, atol=1e-6), name
    assert torch.equal(answers(made(home, weights="script.pt"), x), expected)  # its weights, for the class


def test_a_factory_gets_its_arguments_and_the_spec(home: Path) -> None:
    module = made(home, "factory", args={"width": 6}).build(SPEC)
    assert module.asked.classes == 10
    assert module.asked.body.out_features == 6


def test_answers_and_inputs_are_adapted(home: Path) -> None:
    x = torch.rand(5, 1, 8, 8)
    plain = answers(made(home, weights="w.pt"), x)
    assert torch.equal(answers(made(home, "Wrapped", weights="w.pt", output="scores"), x), plain)
    with pytest.raises(BenchmarkError, match="a Output with scores; choose the part with output="):
        answers(made(home, "Wrapped", weights="w.pt"), x)
    scaled = made(home, weights="w.pt", scale=[255.0], shift=[-3.0])
    assert torch.equal(answers(scaled, x), answers(made(home, weights="w.pt"), x * 255.0 - 3.0))


@pytest.mark.parametrize(
    ("factory", "settings", "sentence"),
    [
        ("MyNt", {}, "it defines Output, MyNet, factory, Wrapped, Double, number"),
        ("MyNet", {"args": {"depth": 3}}, "unexpected keyword argument 'depth'; it takes width"),
        ("Double", {}, "returned a Double; expected a torch.nn.Module"),
        ("number", {}, "returned a int; expected a torch.nn.Module"),
        ("MyNet", {"weights": "checkpoint.pth"}, "model.entry=state_dict"),
        ("MyNet", {"weights": "checkpoint.pth", "entry": "model"}, "has the entries state_dict, epoch"),
        ("MyNet", {"weights": "checkpoint.pth", "entry": "state_dict"}, "does not fit MyNet"),
        ("MyNet", {"weights": "w.pt", "prefix": "module."}, "does not begin with it"),
        ("MyNet", {"weights": "w.pt", "args": {"width": 5}}, r"body.bias is \(4,\), expected \(5,\)"),
        ("MyNet", {"weights": "none.pt"}, "which is not a file"),
        ("MyNet", {"weights": "."}, "has no model.safetensors"),
        ("MyNet", {"weights": "net.py"}, "cannot be read|more than weights"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(home: Path, factory: str, settings: Any, sentence: str) -> None:
    with pytest.raises((ConfigError, DataError), match=sentence) as raised:
        answers(made(home, factory, **settings), torch.rand(2, 1, 8, 8))
    assert "\n" not in str(raised.value)


def test_a_pickle_that_runs_code_is_refused(home: Path) -> None:
    torch.save(made(home).build(SPEC).asked.head, home / "whole.pt")
    with pytest.raises(DataError, match="loading it could run code; save only the state dict"):
        made(home, weights="whole.pt").pretrained(SPEC)


def test_a_file_that_fails_is_named(home: Path) -> None:
    (home / "layers.py").write_text("1 / 0\n")
    with pytest.raises(DataError, match=r"net.py cannot be imported: ZeroDivisionError"):
        made(home).build(SPEC)


def test_files_of_the_same_name_in_two_folders_are_two_modules(home: Path, tmp_path_factory: Any) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "net.py").write_text(NET)
    (other / "layers.py").write_text(LAYERS.replace("nn.Linear(width, 10)", "nn.Linear(width, 10, bias=False)"))
    assert made(home).build(SPEC).asked.head.bias is not None
    assert made(other).build(SPEC).asked.head.bias is None
    assert made(home).build(SPEC).asked.head.bias is not None


# --- in the pipeline ---


def config(home: Path, root: Path, model: Any) -> RunConfig:
    rng = np.random.default_rng(0)
    np.savez(home / "data.npz", x_test=rng.random((20, 1, 8, 8), dtype=np.float32), y_test=np.arange(20) % 10)
    arrays = plugin("dataset", "arrays", path=str(home / "data.npz"))
    return small_config(root, dataset=arrays, model=model)


def test_a_test_split_alone_is_enough_for_a_model_with_weights(home: Path, tmp_path: Path) -> None:
    cell = config(home, tmp_path, made(home, weights="w.pt"))
    result = run(cell)
    assert result.status == "complete", result.error
    record = read_record(tmp_path / "results" / "cells" / result.key)
    assert record.counts is not None
    assert record.counts.total == 20
    assert record.system.name == "arrays/MyNet"
    assert record.system.brings_code
    (finding,) = [f for f in record.findings if f.name == "own_code"]
    assert "MyNet of a file with sha256" in finding.evidence
    assert finding.severity == "info"
    trained = run(dataclasses.replace(cell, model=made(home)))
    assert trained.status == "refused"
    assert "has no training examples, but arrays/MyNet needs training" in str(trained.error)


def test_the_key_follows_the_content_of_code_and_weights_and_not_their_place(home: Path, tmp_path: Path) -> None:
    key = config(home, tmp_path, made(home, weights="w.pt")).system_key()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("net.py", "layers.py", "w.pt"):
        (moved / name).write_bytes((home / name).read_bytes())
    assert config(home, tmp_path, made(moved, weights="w.pt")).system_key() == key
    (moved / "layers.py").write_text(LAYERS + "# other\n")
    assert config(home, tmp_path, made(moved, weights="w.pt")).system_key() != key
    (moved / "layers.py").write_text(LAYERS)
    torch.save({k: v + 1 for k, v in torch.load(home / "w.pt").items()}, moved / "w.pt")
    assert config(home, tmp_path, made(moved, weights="w.pt")).system_key() != key


def test_it_is_verified_where_its_file_is(home: Path, tmp_path: Path) -> None:
    from benchmark.commands.verify import main

    result = run(config(home, tmp_path, made(home, weights="w.pt")))
    cell = tmp_path / "results" / "cells" / result.key
    assert main([str(cell)], str(tmp_path / "results"), str(tmp_path)) == 0


# --- the command line ---


def test_a_choice_of_a_file_is_written_out() -> None:
    assert written_out(["model=net.py:MyNet", "model.weights=w.pt", "seed=1"]) == [
        "model=file", "model.path=net.py", "model.factory=MyNet", "model.weights=w.pt", "seed=1"
    ]  # fmt: skip
    assert written_out(["model=a/b.py:f,a/b.py:g"]) == ["model=file", "model.path=a/b.py", "model.factory=f,g"]
    assert written_out(["model=net.pt2"]) == ["model=file", "model.weights=net.pt2"]
    assert written_out(["model=my net.py:M"])[1] == "model.path='my net.py'"
    assert written_out(["model.args.width=3"]) == ["++model.args.width=3"]
    assert written_out(["model=small_cnn", "-m"]) == ["model=small_cnn", "-m"]
    for wrong, sentence in (
        ("model=net.py", "names a file without its class"),
        ("model=small_cnn,net.py:M", "mixes files and names"),
        ("model=a.py:A,b.py:B", "several classes in several files"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            written_out([wrong])


def test_the_plugin_imports_no_code_before_it_is_asked(home: Path) -> None:
    (home / "net.py").write_text("raise SystemExit\n")
    model = made(home)
    assert model.files()[0] == home / "net.py"
    assert registry.name_of(model) == ("model", "file")
    assert isinstance(model.unreviewed(), str)
    assert not isinstance(model, nn.Module)
