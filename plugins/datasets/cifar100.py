"""CIFAR-100: 60 000 small photographs in 100 classes. Krizhevsky, technical report, 2009, section 3.1.

32x32 colour images with their fine labels. The last 5 000 of the 50 000 training rows are the select split; the 10 000
test rows are attacked. Mean and deviation are those of all training pixels, per channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.api import Dataset, Splits, hookimpl

from ._cifar import Layout, load_cifar
from ._files import Source, pinned

SOURCE = Source(
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)
LAYOUT = Layout(
    train=("cifar-100-binary/train.bin",),
    test="cifar-100-binary/test.bin",
    names="cifar-100-binary/fine_label_names.txt",
    label_bytes=2,
)
MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)


@dataclass(frozen=True)
class CIFAR100(Dataset):
    """The published archive, in the folder `cifar100` of the data folder."""

    def revision(self, root: Path) -> str:
        """The published checksum."""
        return pinned((SOURCE,))

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of 45 000, 5 000 and 10 000 images (3, 32, 32)."""
        return load_cifar(SOURCE, root / "cifar100", LAYOUT, MEAN, STD, offline=offline)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return CIFAR100
