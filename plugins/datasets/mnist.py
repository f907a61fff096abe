"""MNIST: 70 000 handwritten digits. LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86(11), 1998, section III.

28x28 grey images of ten digits. The last 5 000 of the 60 000 training rows are the select split; the 10 000 test rows
are attacked. Mean and deviation are those of all training pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.api import Dataset, DataSpec, Splits, hookimpl

from ._files import Source, pinned
from ._idx import FILES, SELECT, TRAIN, check_sizes, load_idx

_HOST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
SOURCES = tuple(Source(f"{_HOST}/{name}", sha256) for name, sha256 in zip(FILES, _SHA256, strict=True))
SPEC = DataSpec((1, 28, 28), 10, (0.1307,), (0.3081,), tuple("0123456789"))


@dataclass(frozen=True)
class MNIST(Dataset):
    """The four published files, in the folder `mnist` of the data folder.

    train, select: numbers of examples, the first ones of each split.
    """

    train: int = TRAIN
    select: int = SELECT

    def __post_init__(self) -> None:
        check_sizes(self.train, self.select)

    def revision(self, root: Path) -> str:
        """The published checksums."""
        return pinned(SOURCES)

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of `train`, `select` and 10 000 images (1, 28, 28)."""
        return load_idx(SOURCES, root / "mnist", SPEC, offline=offline, train=self.train, select=self.select)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return MNIST
