"""A checkpoint of RobustBench's model zoo. Croce et al., NeurIPS 2021 Datasets and Benchmarks, arXiv:2010.09670.

Read from the file that RobustBench saves, into `model=wide_resnet` or `model=resnet`; its package is never imported,
and nothing is downloaded. The file `NAME.json` of its folder `model_info`, if it lies beside the checkpoint, states the
clean accuracy. Networks of other layouts (SiLU, pre-activation ResNets, transformers, ensembles) are refused.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataError, DataSpec, Model, Refused, hookimpl

from ._weights import misfits, state_under
from ._zoo import ZooModel, document, pinned
from .resnet import STAGES, ResNet
from .wide_resnet import WideResNet

ENTRIES = ("state_dict", "model_state_dict", "net")
PREFIXES = ("module.", "model.")
UNUSED = ("sub_block1.", "mu", "sigma")
"""Beginnings of names of a block that some wide networks hold without using it, and of the normalisation."""


@dataclass(frozen=True)
class Entry:
    """Facts of an entry: network and clean accuracy of its card, and the normalisation in RobustBench's code."""

    architecture: str
    accuracy: float
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
KNOWN = {
    ("cifar10", "Linf", "Standard"): Entry("WideResNet-28-10", 0.9478),
    ("cifar10", "Linf", "Carmon2019Unlabeled"): Entry("WideResNet-28-10", 0.8969),
    ("cifar10", "Linf", "Hendrycks2019Using"): Entry("WideResNet-28-10", 0.8711, (0.5,), (0.5,)),
    ("cifar10", "Linf", "Engstrom2019Robustness"): Entry("ResNet-50", 0.8703, CIFAR10_MEAN, (0.2023, 0.1994, 0.2010)),
    ("cifar10", "Linf", "Rice2020Overfitting"): Entry(
        "WideResNet-34-20", 0.8534, CIFAR10_MEAN, (0.2471, 0.2435, 0.2616)
    ),
}
"""Entries whose files may come without their card or their normalisation (commit 78fcc9e)."""


@dataclass(frozen=True)
class RobustBench(ZooModel):
    """A network by its name and threat in the zoo; depth and width are those of its tensors.

    name, threat, dataset: of the entry, as in RobustBench: Standard, Linf, cifar10. path: the .pt file, identified by
    its content, not its location; empty for models/DATASET/THREAT/NAME.pt, where RobustBench saves it. sha256: of the
    file; empty accepts any. mean, std: normalisation, one value or one per channel; empty for `mu` and `sigma` in the
    file, or else that of the entry, if it is among the five known ones, or else none. clean_accuracy: in [0, 1],
    checked when the weights are loaded; by default the card's, on the card's dataset.
    """

    name: str = "Standard"
    threat: str = "Linf"
    dataset: str = "cifar10"
    path: str = ""
    sha256: str = ""
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.mean) != bool(self.std):
            raise ConfigError(f"model.mean is {self.mean} and model.std is {self.std}; set both, or neither")

    def build(self, spec: DataSpec) -> nn.Module:
        """The architecture of the checkpoint with its normalisation; the weights are in `pretrained`.

        Raises:
            DataError: if the file is missing, has another checksum or layout, or contradicts its card.
            Refused: if it does not fit the data.
        """
        state = self._state()
        return self._network(state)[0].build(self._normalised(spec, state))

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The weights of the file under the names of our architecture.

        Raises:
            DataError: as in `build`, or if they do not fit.
        """
        state = self._state()
        network, names = self._network(state)
        with torch.device("meta"):
            expected = network.build(spec).state_dict()
        weights = {
            name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith("num_batches_tracked")
        }
        for name, value in state.items():
            if not name.startswith(UNUSED):
                module, _, leaf = name.rpartition(".")
                weights[f"{names[module]}.{leaf}" if module in names else name] = value
        wrong = misfits(expected, weights)
        if wrong:
            raise DataError(
                f"{len(wrong)} tensors of {self._file} do not fit {_named(network)} ({'; '.join(wrong[:3])})"
            )
        return weights

    def card_accuracy(self, dataset: str) -> float | None:
        """The card's `clean_acc`, if it is about `dataset`; None without a card."""
        if not self._card.is_file():
            return self._known.accuracy if self._known and dataset == self.dataset else None
        card = document(self._card)
        if card.get("dataset") != dataset:
            return None
        try:
            return float(card["clean_acc"]) / 100
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self._card} has clean_acc {card.get('clean_acc')!r}; expected a percentage") from error

    def files(self) -> tuple[Path, ...]:
        """The checkpoint, and its card if there is one."""
        return (self._file, *([self._card] if self._card.is_file() else []))

    @property
    def _known(self) -> Entry | None:
        return KNOWN.get((self.dataset, self.threat, self.name))

    @property
    def _file(self) -> Path:
        return Path(self.path or f"models/{self.dataset}/{self.threat}/{self.name}.pt")

    @property
    def _card(self) -> Path:
        return self._file.with_suffix(".json")

    def _state(self) -> dict[str, Tensor]:
        if not self._file.is_file():
            raise DataError(
                f"there is no checkpoint {self._file}; download it once with RobustBench, or name it in model.path"
            )
        pinned(self._file, self.sha256)
        return state_under(self._file, ENTRIES, PREFIXES)

    def _network(self, state: dict[str, Tensor]) -> tuple[Model, dict[str, str]]:
        """Our architecture of a state dict, checked against its card, and our name of each of its modules."""
        layout = _wide(state) or _residual(state)
        if layout is None:
            raise DataError(
                f"{self._file} has {next(iter(state), 'no tensors')}, and is neither a WideResNet nor a ResNet in "
                "RobustBench's layout; other networks of the zoo are not supported"
            )
        entry = self._known
        said = str(document(self._card).get("architecture")) if self._card.is_file() else entry and entry.architecture
        found = _named(layout[0])
        if said and re.fullmatch(r"(Wide)?ResNet[-\d]+", said) and said != found:
            raise DataError(f"{self._file} contains a {found}, but its card says {said}; get the right file")
        return layout

    def _normalised(self, spec: DataSpec, state: dict[str, Tensor]) -> DataSpec:
        """The data's spec with the normalisation of the checkpoint."""
        classes = len(state["fc.bias" if "fc.bias" in state else "linear.bias"])
        if classes != spec.classes:
            raise Refused(
                f"model.robustbench has {classes} classes in {self._file}, but the data have {spec.classes}; choose "
                "the data that it was made for"
            )
        known = self._known or Entry("", 0.0)
        mean, std = known.mean, known.std
        if "mu" in state and "sigma" in state:
            mean, std = (tuple(state[name].double().flatten().tolist()) for name in ("mu", "sigma"))
        if self.mean:
            mean, std = tuple(self.mean), tuple(self.std)
        if not spec.image or {len(mean), len(std)} - {1, spec.shape[0]}:
            raise Refused(
                f"model.robustbench takes images of {max(len(mean), len(std))} channels, but the examples have shape "
                f"{spec.shape}"
            )
        return dataclasses.replace(spec, mean=mean, std=std)


def _named(model: Model) -> str:
    """Architecture as RobustBench's cards name it."""
    if isinstance(model, WideResNet):
        return f"WideResNet-{model.depth}-{model.width}"
    assert isinstance(model, ResNet)
    return f"ResNet-{model.depth}"


def _layers(state: dict[str, Tensor], stage: str) -> list[str]:
    """Prefixes of the blocks of a stage, in order."""
    found = {name[len(stage) :].partition(".")[0] for name in state if name.startswith(stage)}
    return [f"{stage}{i}" for i in range(len(found))]


def _wide(state: dict[str, Tensor]) -> tuple[Model, dict[str, str]] | None:
    """Wide network, and our name of each of its modules; None for another layout."""
    stages = [_layers(state, f"block{stage}.layer.") for stage in (1, 2, 3)]
    if not all(stages) or len({len(stage) for stage in stages}) > 1 or not {"fc.weight", "fc.bias"} <= state.keys():
        return None
    ours = {
        "bn1": "first",
        "conv1": "residual.0",
        "bn2": "residual.1",
        "conv2": "residual.3",
        "convShortcut": "shortcut",
    }
    blocks = [block for stage in stages for block in stage]
    names = {f"{block}.{part}": f"{at}.{ours[part]}" for at, block in enumerate(blocks, 2) for part in ours}
    last = 2 + len(blocks)
    width = max(1, state["fc.weight"].shape[-1] // 64)
    return WideResNet(6 * len(stages[0]) + 4, width), {**names, "conv1": "1", "bn1": f"{last}", "fc": f"{last + 4}"}


def _residual(state: dict[str, Tensor]) -> tuple[Model, dict[str, str]] | None:
    """Residual network, and our name of each of its modules; None for another layout."""
    stages = [_layers(state, f"layer{stage}.") for stage in (1, 2, 3, 4)]
    bottleneck = "layer1.0.conv3.weight" in state
    counts = tuple(len(stage) for stage in stages)
    depth = next((depth for depth, blocks in STAGES.items() if blocks == counts and bottleneck == (depth >= 50)), None)
    if depth is None or not {"bn1.weight", "linear.weight", "linear.bias"} <= state.keys():
        return None
    ours = {f"{part}{i + 1}": f"residual.{3 * i + at}" for i in range(3) for at, part in enumerate(("conv", "bn"))}
    ours |= {f"shortcut.{i}": f"shortcut.{i}" for i in range(2)}
    blocks = [block for stage in stages for block in stage]
    names = {f"{block}.{part}": f"{at}.{ours[part]}" for at, block in enumerate(blocks, 4) for part in ours}
    return ResNet(depth), {**names, "conv1": "1", "bn1": "2", "linear": f"{6 + len(blocks)}"}


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return RobustBench
