"""Checkpoints in RobustBench's layout, on stand-ins made here: its networks, written anew, are the reference."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import registry
from benchmark.api import Model
from benchmark.data import DataSpec, Examples
from benchmark.errors import ConfigError, DataError, Refused
from benchmark.records.card import Card
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.stages import clean
from benchmark.stages.load import Loaded
from tests.core.cells import fitted_of, loaded_of, small_config

DIGITS = DataSpec((1, 8, 8), 10, (0.3,), (0.4,))
RGB = DataSpec((3, 16, 16), 10)
MU, SIGMA = 0.4, 0.5


class Wide(nn.Module):
    """WRN-10-1 with RobustBench's names, a block that is not used, and its buffers of the normalisation."""

    mu: Tensor
    sigma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        for stage, (inputs, maps) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
            part = nn.Module()
            part.bn1, part.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(maps)
            part.conv1 = nn.Conv2d(inputs, maps, 3, stride=1 + (stage > 1), padding=1, bias=False)
            part.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
            if inputs != maps:
                part.convShortcut = nn.Conv2d(inputs, maps, 1, stride=2, bias=False)
            block = nn.Module()
            block.layer = nn.ModuleList([part])
            setattr(self, f"block{stage}", block)
        self.sub_block1 = copy.deepcopy(self.block1)
        self.bn1, self.fc = nn.BatchNorm2d(64), nn.Linear(64, 10)
        self.register_buffer("mu", torch.full((1, 1, 1, 1), MU))
        self.register_buffer("sigma", torch.full((1, 1, 1, 1), SIGMA))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1((x - self.mu) / self.sigma)
        blocks: tuple[Any, ...] = (self.block1, self.block2, self.block3)
        for block in blocks:
            part = block.layer[0]
            active = F.relu(part.bn1(out))
            other = part.convShortcut(active) if hasattr(part, "convShortcut") else out
            out = part.conv2(F.relu(part.bn2(part.conv1(active)))) + other
        logits: Tensor = self.fc(F.relu(self.bn1(out)).mean((2, 3)))
        return logits


def residual_block(inputs: int, maps: int, stride: int) -> nn.Module:
    block = nn.Module()
    block.conv1 = nn.Conv2d(inputs, maps, 3, stride=stride, padding=1, bias=False)
    block.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
    block.bn1, block.bn2 = nn.BatchNorm2d(maps), nn.BatchNorm2d(maps)
    if stride > 1:
        block.shortcut = nn.Sequential(nn.Conv2d(inputs, maps, 1, stride=stride, bias=False), nn.BatchNorm2d(maps))
    return block


class Residual(nn.Module):
    """ResNet-18 with RobustBench's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        for stage, maps in enumerate([64, 128, 256, 512], 1):
            stride = 1 if stage == 1 else 2
            blocks = [residual_block(maps // stride, maps, stride), residual_block(maps, maps, 1)]
            setattr(self, f"layer{stage}", nn.ModuleList(blocks))
        self.linear = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        stages: tuple[Any, ...] = (self.layer1, self.layer2, self.layer3, self.layer4)
        for stage in stages:
            for part in stage:
                other = part.shortcut(out) if hasattr(part, "shortcut") else out
                out = F.relu(part.bn2(part.conv2(F.relu(part.bn1(part.conv1(out))))) + other)
        logits: Tensor = self.linear(out.mean((2, 3)))
        return logits


def make(**settings: Any) -> Model:
    cls: Any = registry.load("model", "robustbench")
    made: Model = cls(**{"name": "Mine", **settings})
    return made


def filled(model: Model, spec: DataSpec) -> nn.Module:
    module, weights = model.build(spec), model.pretrained(spec)
    assert weights is not None
    module.load_state_dict(weights)
    return module.eval()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return loaded_of(small_config(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def trained(loaded: Loaded) -> Wide:
    """The reference, after two epochs of the digits."""
    torch.manual_seed(0)
    net, train = Wide(), loaded.splits.train
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(2):
        for at in torch.randperm(len(train)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(train.x(at)), train.y[at]).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture
def zoo(tmp_path: Path, trained: Wide) -> Path:
    """The checkpoint where RobustBench saves it, as Carmon et al. saved theirs, and a card of it."""
    path = tmp_path / "models" / "digits" / "Linf" / "Mine.pt"
    path.parent.mkdir(parents=True)
    torch.save({"epoch": 2, "state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, path)
    return path


def card(path: Path, accuracy: float, **other: Any) -> None:
    document = {"dataset": "digits", "architecture": "WideResNet-10-1", "clean_acc": f"{100 * accuracy:.2f}", **other}
    path.with_suffix(".json").write_text(json.dumps(document))


def row(net: nn.Module, test: Examples, eps: float) -> tuple[int, int]:
    """Numbers of examples that are right, and still right after one step of the gradient's sign."""
    x = test.x().requires_grad_(True)
    logits = net(x)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, test.y, reduction="sum"), x)
    moved = net((x + eps * gradient.sign()).clamp(0, 1)).argmax(1)
    right = logits.argmax(1) == test.y
    return int(right.sum()), int((right & (moved == test.y)).sum())


# --- a row of the table ----------------------------------------------------------------------------------------------


def test_a_row_of_the_table_is_reproduced_to_the_last_example(
    zoo: Path, trained: Wide, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, robust = row(trained, loaded.attacked, 0.1)
    assert 100 < robust < right < len(loaded.attacked)
    card(zoo, right / len(loaded.attacked))
    monkeypatch.chdir(tmp_path)
    result = run(small_config(tmp_path, model=make(threat="Linf", dataset="digits")))
    record = Store(tmp_path / "results").record(result.key)
    assert record is not None
    assert record.status == "complete", record.error
    assert record.counts is not None
    assert (record.counts.clean_correct, record.counts.robust_correct) == (right, robust)


def test_the_key_is_of_the_content_and_not_of_the_place(zoo: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other.pt"
    elsewhere.write_bytes(zoo.read_bytes())
    keys = {small_config(tmp_path, model=make(path=str(path))).system_key() for path in (zoo, elsewhere)}
    assert len(keys) == 1
    card(elsewhere, 0.5)
    assert small_config(tmp_path, model=make(path=str(elsewhere))).system_key() not in keys


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout",
    [
        lambda state: state,
        lambda state: {"model_state_dict": state, "args": {"lr": 0.1}},
        lambda state: {"net": {f"module.model.{name}": value for name, value in state.items()}},
        lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    ],
)
def test_wide_networks_however_they_are_wrapped(
    tmp_path: Path, trained: Wide, layout: Callable[[dict[str, Tensor]], Any]
) -> None:
    torch.save(layout(dict(trained.state_dict())), tmp_path / "net.pt")
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(filled(make(path=str(tmp_path / "net.pt")), DIGITS)(x), trained(x))


def test_a_residual_network_with_the_normalisation_that_is_set(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Residual()
    net(torch.rand(4, 3, 16, 16))
    torch.save(net.eval().state_dict(), tmp_path / "net.pt")
    x = torch.rand(2, 3, 16, 16)
    plain = filled(make(path=str(tmp_path / "net.pt")), RGB)
    torch.testing.assert_close(plain(x), net(x), atol=1e-4, rtol=1e-4)
    module = filled(make(path=str(tmp_path / "net.pt"), mean=[0.1, 0.2, 0.3], std=[0.5]), RGB)
    moved = (x - torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / 0.5
    torch.testing.assert_close(module(x), net(moved), atol=1e-4, rtol=1e-4)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_byte_that_differs_is_refused(zoo: Path) -> None:
    raw = zoo.read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    make(path=str(zoo), sha256=sha256).pretrained(DIGITS)
    zoo.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(DataError, match=rf"has sha256 .*, but model\.sha256 is {sha256}; download the right revision"):
        make(path=str(zoo), sha256=sha256).pretrained(DIGITS)


def test_what_is_no_checkpoint_of_these_networks_is_refused(zoo: Path, tmp_path: Path, trained: Wide) -> None:
    with pytest.raises(DataError, match=r"there is no checkpoint models/cifar10/L2/Mine\.pt; download it once"):
        make(threat="L2").build(DIGITS)
    state, path = trained.state_dict(), tmp_path / "net.pt"
    for content, text in (
        ({f"encoder.{name}": value for name, value in state.items()}, r"has encoder\.mu, and is neither a WideResNet"),
        ({"last": dict(state)}, r"has the entries last; expected tensors by name, alone or under state_dict"),
        ({name: value for name, value in state.items() if name != "bn1.bias"}, r"5\.bias is missing, expected \(64,\)"),
        ({**state, "tail.weight": state["bn1.bias"]}, r"tail\.weight is \(64,\), expected nothing"),
    ):
        torch.save(content, path)
        with pytest.raises(DataError, match=text):
            make(path=str(path)).pretrained(DIGITS)
    with pytest.raises(Refused, match=r"has 10 classes .*, but the data have 3"):
        make(path=str(zoo)).build(DataSpec((1, 8, 8), 3))
    with pytest.raises(Refused, match=r"takes images of 2 channels"):
        make(path=str(zoo), mean=[0.0, 0.0], std=[1.0]).build(DIGITS)
    with pytest.raises(ConfigError, match=r"model\.std is \[\]; set both, or neither"):
        make(mean=[0.5])


def test_another_network_than_the_card_names_is_refused(zoo: Path) -> None:
    with pytest.raises(DataError, match=r"contains a WideResNet-10-1, but its card says WideResNet-28-10"):
        make(path=str(zoo), name="Standard").build(DIGITS)
    card(zoo, 0.9, architecture="ResNet-18")
    with pytest.raises(DataError, match=r"contains a WideResNet-10-1, but its card says ResNet-18"):
        make(path=str(zoo)).build(DIGITS)


# --- the accuracy of the card ----------------------------------------------------------------------------------------


def fitted(tmp_path: Path, loaded: Loaded, **settings: Any) -> Card:
    return fitted_of(small_config(tmp_path, model=make(**settings)), loaded)[1]


def test_another_accuracy_than_the_cards_is_refused(
    zoo: Path, tmp_path: Path, loaded: Loaded, trained: Wide, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, total = row(trained, loaded.splits.test, 0.0)[0], len(loaded.splits.test)
    card(zoo, 0.5)
    text = rf"model\.robustbench is right on {right} of {total} clean test examples of dataset\.digits .* says 50\.00%"
    with pytest.raises(DataError, match=text):
        fitted(tmp_path, loaded, path=str(zoo))
    assert fitted(tmp_path, loaded, path=str(zoo), clean_accuracy=right / total).test_correct == right
    card(zoo, 0.5, dataset="cifar10")
    assert fitted(tmp_path, loaded, path=str(zoo)).test_correct == right
    monkeypatch.setattr(clean, "STATED_ON", 50)
    with pytest.raises(DataError, match=r"right on \d+ of 50 clean .* says 30\.00%"):
        fitted(tmp_path, loaded, path=str(zoo), clean_accuracy=0.3)


def test_what_a_card_states() -> None:
    assert make(name="Standard").stated_accuracy("cifar10") == 0.9478
    assert make(name="Standard").stated_accuracy("digits") is None
    assert make(name="Other").stated_accuracy("cifar10") is None
    assert make(name="Other", clean_accuracy=0.5).stated_accuracy("digits") == 0.5
    with pytest.raises(ConfigError, match=r"model\.clean_accuracy is 94\.78; expected a fraction from 0 to 1"):
        make(clean_accuracy=94.78)


@pytest.mark.parametrize("name", ["huggingface", "keras", "timm", "torch_hub", "torchvision"])
def test_every_zoo_takes_a_published_accuracy(name: str) -> None:
    cls: Any = registry.load("model", name)
    assert cls().stated_accuracy("digits") is None
    assert cls(clean_accuracy=0.75).stated_accuracy("digits") == 0.75
    with pytest.raises(ConfigError, match=r"model\.clean_accuracy is -1; expected a fraction"):
        cls(clean_accuracy=-1)


def test_a_card_without_a_percentage_is_refused(zoo: Path) -> None:
    card(zoo, 0.5, clean_acc="n/a")
    with pytest.raises(DataError, match=r"Mine\.json has clean_acc 'n/a'; expected a percentage"):
        make(path=str(zoo)).stated_accuracy("digits")
