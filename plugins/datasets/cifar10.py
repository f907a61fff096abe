"""CIFAR-10: 60 000 small photographs in 10 classes. Krizhevsky, technical report, 2009, section 3.1.

32x32 colour images. The last 5 000 of the 50 000 training rows (data_batch_1 to data_batch_5, in that order) are the
select split; the 10 000 test rows are attacked. Mean and deviation are those of all training pixels, per channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.api import Dataset, Splits, hookimpl

from ._cifar import Layout, load_cifar
from ._files import Source, pinned

SOURCE = Source(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
LAYOUT = Layout(
    train=tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
    test="cifar-10-batches-bin/test_batch.bin",
    names="cifar-10-batches-bin/batches.meta.txt",
    label_bytes=1,
)
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class CIFAR10(Dataset):
    """The published archive, in the folder `cifar10` of the data folder."""

    def revision(self, root: Path) -> str:
        """The published checksum."""
        return pinned((SOURCE,))

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits of 45 000, 5 000 and 10 000 images (3, 32, 32)."""
        return load_cifar(SOURCE, root / "cifar10", LAYOUT, MEAN, STD, offline=offline)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return CIFAR10
