"""Zoo formats: built, filled, refused when a byte differs, and never without a sentence. Networks are made here.

Where a zoo's package is installed the real one is asked: timm and torchvision import beside torch 2.14, for which there
is a torchvision, and not beside the CPU build of 2.13, where a stand-in of the one function that is called takes their
place.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from benchmark_plugins.models._zoo import Preprocessed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Model
from benchmark.data import DataSpec
from benchmark.errors import ConfigError, DataError, MissingPackage, Refused
from benchmark.records.store import Store
from benchmark.run import run
from tests.conftest import Runner
from tests.core.cells import plugin, small_config

DIGITS = DataSpec((1, 8, 8), 10)
MEAN, STD = [0.3], [0.2]


class Net(nn.Module):
    """A network of the tests, as a zoo would make it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x.flatten(1))
        return logits


def make(name: str, /, **settings: Any) -> Model:
    cls: Any = registry.load("model", name)
    made: Model = cls(**settings)
    return made


def filled(model: Model, spec: DataSpec = DIGITS) -> nn.Module:
    module, weights = model.build(spec), model.pretrained(spec)
    assert weights is not None
    module.load_state_dict(weights)
    return module.eval()


def stand_in(name: str) -> Any:
    """An empty module, with the spec that others look for who ask whether it is installed."""
    made = ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    return made


def real(name: str) -> Any:
    """The package of a zoo itself; the test skips where it does not import."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision without its operators raises a RuntimeError
        pytest.skip(f"{name} does not import here: {error}")


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net(10)


@pytest.fixture
def timm_folder(tmp_path: Path, net: Net, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as timm's hub has them, and a stand-in of timm.create_model."""
    config = {
        "architecture": "net",
        "num_classes": 10,
        "pretrained_cfg": {"mean": MEAN, "std": STD, "input_size": [1, 8, 8]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    timm = stand_in("timm")
    timm.create_model = lambda name, pretrained, num_classes, **rest: Net(num_classes)
    monkeypatch.setitem(sys.modules, "timm", timm)
    return tmp_path


def test_a_timm_folder_has_its_preprocessing_inside(timm_folder: Path, net: Net) -> None:
    x = torch.rand(5, 1, 8, 8)
    module = filled(make("timm", path=str(timm_folder)))
    torch.testing.assert_close(module(x), net((x - MEAN[0]) / STD[0]))


def test_weights_of_which_a_byte_differs_are_refused(timm_folder: Path) -> None:
    file = timm_folder / "model.safetensors"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    filled(make("timm", path=str(timm_folder), sha256=sha256))
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(bytes(raw))
    with pytest.raises(DataError, match=rf"has sha256 .*, but model\.sha256 is {sha256}; download the right revision"):
        make("timm", path=str(timm_folder), sha256=sha256).pretrained(DIGITS)
    with pytest.raises(ConfigError, match="expected 64 lower-case"):
        make("timm", path=str(timm_folder), sha256="abc").pretrained(DIGITS)


def test_what_does_not_fit_is_refused(timm_folder: Path) -> None:
    model = make("timm", path=str(timm_folder))
    with pytest.raises(Refused, match="has 10 classes, but the data have 3"):
        model.build(DataSpec((1, 8, 8), 3))
    with pytest.raises(Refused, match="takes images of 1 channels"):
        model.build(DataSpec((64,), 10))
    save_file({"head.weight": torch.zeros(10, 63), "head.bias": torch.zeros(10)}, timm_folder / "model.safetensors")
    with pytest.raises(DataError, match=r"head\.weight is \(10, 63\), expected \(10, 64\)"):
        model.pretrained(DIGITS)
    (timm_folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json cannot be read .* download the whole folder"):
        model.build(DIGITS)


@pytest.mark.parametrize("name", ["timm", "torchvision", "huggingface"])
def test_without_its_package_the_line_to_type_is_named(
    name: str, timm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("timm", "torchvision", "torchvision.models", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    settings = {} if name == "torchvision" else {"path": str(timm_folder)}
    with pytest.raises(MissingPackage, match=r"cannot be imported .*pip install"):
        make(name, **settings).build(DIGITS)


def test_a_cell_of_a_zoo_model_is_known_by_its_content_and_needs_no_training(
    timm_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The nearest class means of the digits in timm's clothes keep the accuracy that they are known to have."""
    means = make("nearest_class_mean").pretrained(DIGITS)
    assert means is not None
    weight, bias = means["1.weight"], means["1.bias"]
    undone = {"head.weight": weight * STD[0], "head.bias": bias + MEAN[0] * weight.sum(1)}
    save_file(undone, timm_folder / "model.safetensors")
    folder = tmp_path_factory.mktemp("store")
    config = small_config(
        folder, examples=500, model=plugin("model", "timm", path=str(timm_folder), clean_accuracy=0.87)
    )
    result = run(config)
    record = Store(folder / "results").record(result.key)
    assert record is not None
    assert record.status == "complete", record.error
    assert record.counts is not None
    assert record.counts.clean_correct == 435
    assert str(timm_folder) not in json.dumps(record.system.config)


def test_torchvision_has_the_preprocessing_of_its_weights(
    tmp_path: Path, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = stand_in("torchvision.models")
    models.get_model = lambda name, weights, num_classes: Net(num_classes)
    preset = SimpleNamespace(mean=MEAN, std=STD, crop_size=[8])
    models.get_weight = lambda name: SimpleNamespace(transforms=lambda: preset)
    monkeypatch.setitem(sys.modules, "torchvision", stand_in("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    torch.save(net.state_dict(), tmp_path / "net-0676ba61.pth")
    model = make("torchvision", name="net", path=str(tmp_path / "net-0676ba61.pth"), weights_enum="Net_Weights.V1")
    x = torch.rand(5, 1, 16, 16)
    module = filled(model, DataSpec((1, 16, 16), 10))
    small = nn.functional.interpolate(x, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(module(x), net((small - MEAN[0]) / STD[0]))


def test_a_timm_folder_by_timm_itself(tmp_path: Path) -> None:
    """A folder as timm itself writes it for the hub."""
    torch.manual_seed(0)
    theirs = real("timm").create_model("test_resnet", in_chans=1, num_classes=10).eval()
    config = {"pretrained_cfg": {"mean": MEAN, "std": STD, "input_size": [1, 32, 32]}}
    importlib.import_module("timm.models").save_for_hf(theirs, tmp_path, model_config=config, safe_serialization=True)
    x = torch.rand(4, 1, 32, 32)
    module = filled(make("timm", path=str(tmp_path)), DataSpec((1, 32, 32), 10))
    torch.testing.assert_close(module(x), theirs((x - MEAN[0]) / STD[0]))


def test_a_state_dict_of_torchvision_by_torchvision_itself(tmp_path: Path) -> None:
    torch.manual_seed(0)
    models = real("torchvision.models")
    theirs = models.get_model("squeezenet1_1", weights=None, num_classes=10).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    preset = models.get_weight("SqueezeNet1_1_Weights.IMAGENET1K_V1").transforms()
    settings = {"path": str(tmp_path / "net.pth"), "weights_enum": "SqueezeNet1_1_Weights.IMAGENET1K_V1"}
    x = torch.rand(2, 3, *2 * preset.crop_size)
    module = filled(make("torchvision", name="squeezenet1_1", **settings), DataSpec(tuple(x.shape[1:]), 10))
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (preset.mean, preset.std))
    torch.testing.assert_close(module(x), theirs((x - mean) / std))
    with pytest.raises(ConfigError, match=r"'no_such_net': .*see torchvision\.models\.list_models"):
        make("torchvision", name="no_such_net").build(DataSpec((3, 8, 8), 10))


HUB = """
import torch

def net(width=64):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(width, 10))

def no_module():
    return 3
"""


def test_a_repository_with_a_hubconf_by_torch_hub_itself(tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text(HUB)
    weights = {"1.weight": torch.randn(10, 64), "1.bias": torch.randn(10)}
    torch.save(weights, tmp_path / "w.pt")
    settings = {"repository": str(tmp_path), "entry": "net", "weights": str(tmp_path / "w.pt")}
    x = torch.rand(5, 1, 8, 8)
    module = filled(make("torch_hub", **settings, mean=MEAN, std=STD))
    expected = ((x - MEAN[0]) / STD[0]).flatten(1) @ weights["1.weight"].T + weights["1.bias"]
    torch.testing.assert_close(module(x), expected)
    with pytest.raises(ConfigError, match=r"'no_module' .* returned a int; expected a module"):
        make("torch_hub", repository=str(tmp_path), entry="no_module").build(DIGITS)
    with pytest.raises(ConfigError, match=r"'other' of .* cannot be called"):
        make("torch_hub", repository=str(tmp_path), entry="other").build(DIGITS)
    with pytest.raises(DataError, match=r"but it has no hubconf\.py"):
        make("torch_hub", repository=str(tmp_path / "nowhere"), entry="net").build(DIGITS)


def test_a_repository_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    places = [tmp_path / "here", tmp_path / "there"]
    keys = []
    for place in places:
        place.mkdir()
        (place / "hubconf.py").write_text(HUB)
        make("torch_hub", repository=str(place), entry="net").build(DIGITS)  # may write Python's caches
        config = small_config(tmp_path, model=make("torch_hub", repository=str(place), entry="net"))
        keys.append(config.system_key())
    assert keys[0] == keys[1]
    (places[1] / "weights.bin").write_bytes(b"1")
    assert config.system_key() != keys[0]


def test_a_folder_of_transformers_by_transformers_itself(tmp_path: Path) -> None:
    transformers = real("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_labels=10,
    )  # fmt: skip
    theirs = transformers.AutoModelForImageClassification.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    about = {
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "do_resize": True,
        "size": {"height": 8, "width": 8},
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    x = torch.rand(5, 1, 8, 8)
    module = filled(make("huggingface", path=str(tmp_path)))
    torch.testing.assert_close(module(x), theirs((x - MEAN[0]) / STD[0]).logits)
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(module(leaf).sum(), leaf)
    assert bool((gradient != 0).any())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("classifier.bias")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"do not fit its config\.json \(missing keys: classifier\.bias\)"):
        make("huggingface", path=str(tmp_path)).pretrained(DIGITS)


def test_a_folder_of_transformers_by_a_stand_in(tmp_path: Path, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is an object with logits; without a preprocessor inputs go in as they are."""

    class Theirs(Net):
        def forward(self, x: Tensor) -> Any:
            return SimpleNamespace(logits=super().forward(x))

    theirs = stand_in("transformers")
    theirs.AutoConfig = SimpleNamespace(from_pretrained=lambda path, **options: SimpleNamespace(num_labels=10))

    def from_pretrained(path: str, **options: Any) -> tuple[nn.Module, dict[str, list[str]]]:
        made = Theirs(10)
        made.load_state_dict(load_file(Path(path) / "model.safetensors"))
        return made, {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}

    theirs.AutoModelForImageClassification = SimpleNamespace(
        from_config=lambda config: Theirs(config.num_labels), from_pretrained=from_pretrained
    )
    monkeypatch.setitem(sys.modules, "transformers", theirs)
    (tmp_path / "config.json").write_text("{}")
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    x = torch.rand(5, 1, 8, 8)
    module = filled(make("huggingface", path=str(tmp_path)))
    assert isinstance(module, Preprocessed)
    torch.testing.assert_close(module(x), net(x))


KERAS = """
import keras, torch
from benchmark.api import AnswerKind
from benchmark.data import DataSpec
from benchmark_plugins.models.keras import Keras

layers = [keras.layers.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
theirs = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
theirs.save("net.keras")
model = Keras("net.keras", answers=AnswerKind.probabilities)
module = model.build(DataSpec((1, 8, 8), 10))
module.load_state_dict(model.pretrained(DataSpec((1, 8, 8), 10)))
x = torch.rand(5, 1, 8, 8, requires_grad=True)
logits = module(x)
torch.testing.assert_close(logits.softmax(1), theirs(x.detach().permute(0, 2, 3, 1)))
(gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
assert bool((gradient != 0).any())
print("passed")
"""


def test_a_keras_file_by_keras_itself(tmp_path: Path, run_python: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: Keras chooses its backend when it is imported, and once."""
    found = importlib.util.find_spec("keras")
    if found is None or found.origin is None:
        pytest.skip("Keras is not installed: pip install 'adversarial-benchmark[keras]'")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    done = run_python("-c", KERAS, cwd=tmp_path, beside=Path(found.origin).parents[1])
    assert done.stdout.endswith("passed\n"), done.stderr


def test_a_keras_file_on_another_backend_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.keras").write_bytes(b"none")
    keras = stand_in("keras")
    backend = SimpleNamespace(backend=lambda: "jax")
    keras.backend = backend
    monkeypatch.setitem(sys.modules, "keras", keras)
    model = make("keras", path=str(tmp_path / "net.keras"))
    with pytest.raises(ConfigError, match=r"Keras runs on jax here, which has no torch gradients; .*KERAS_BACKEND"):
        model.build(DIGITS)
    backend.backend = lambda: "torch"

    def failing(path: Path, **options: Any) -> nn.Module:
        raise ValueError("not a zip file")

    keras.saving = SimpleNamespace(load_model=failing)
    with pytest.raises(DataError, match=r"net\.keras cannot be read \(not a zip file\)"):
        model.build(DIGITS)
    keras.saving.load_model = lambda path, **options: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert filled(model)(torch.rand(2, 1, 8, 8)).shape == (2, 10)
