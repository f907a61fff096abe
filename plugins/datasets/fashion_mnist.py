"""Fashion-MNIST: 70 000 pictures of clothing. Xiao, Rasul & Vollgraf, 2017, arXiv:1708.07747.

Format and splits as in MNIST: 28x28 grey images of ten classes; the last 5 000 of the 60 000 training rows are the
select split; the 10 000 test rows are attacked. Mean and deviation are those of all training pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.api import Dataset, DataSpec, Splits, hookimpl

from ._files import Source, pinned
from ._idx import FILES, SELECT, TRAIN, check_sizes, load_idx

_HOST = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_UNPACKED = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
SOURCES = tuple(Source(f"{_HOST}/{name}", *sums) for name, *sums in zip(FILES, _SHA256, _UNPACKED, strict=True))
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the files."""
SPEC = DataSpec(
    (1, 28, 28),
    10,
    (0.2860,),
    (0.3530,),
    ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


@dataclass(frozen=True)
class FashionMNIST(Dataset):
    """The four published files, in the folder `fashion_mnist` of the data folder.

    Where it has none, those of Debian's package `dataset-fashion-mnist` are read, if it is installed: they have another
    gzip header, and the unpacked content is compared. train, select: numbers of examples, the first ones of each split.
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
        folder = root / "fashion_mnist"
        if not any((folder / name).is_file() for name in FILES) and all((DEBIAN / name).is_file() for name in FILES):
            folder = DEBIAN
        return load_idx(SOURCES, folder, SPEC, offline=offline, train=self.train, select=self.select)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return FashionMNIST
