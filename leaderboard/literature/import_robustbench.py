"""RobustBench's published entries as numbers.

Run `python -m benchmark_leaderboard.literature.import_robustbench IN.json OUT.json`.

RobustBench (Croce et al., NeurIPS 2021 Datasets and Benchmarks) writes accuracies as strings of percentages, and marks
missing ones as "", "null" or by leaving them out. Counts are restored: its l_p boards use 10,000 test images of CIFAR
and 5,000 validation images of ImageNet, and two decimals of a percentage give the count exactly.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmark.errors import RecordError

from .published_numbers import Entry, Number, PublishedMetric, PublishedProtocol, Source

__all__ = ["converted", "main"]

EXAMPLES = {"cifar10": 10_000, "cifar100": 10_000, "imagenet": 5_000}
ROBUSTBENCH_NORMS = {"Linf": "linf", "L2": "l2"}
RADII = {("cifar10", "Linf"): "8/255", ("cifar100", "Linf"): "8/255", ("imagenet", "Linf"): "4/255",
         ("cifar10", "L2"): "1/2"}  # fmt: skip
MISFILED = {
    ("Linf", "Hendrycks2019Using", "59.23"): "cifar100",
    ("corruptions", "Hendrycks2020AugMix_ResNeXt", "78.90"): "cifar100",
    ("corruptions", "Hendrycks2020AugMix_WRN", "76.28"): "cifar100",
}
"""Dataset of entries whose field `dataset` is wrong, by threat, id and clean accuracy: the folder is
right. Their files are in `model_info/cifar100`, but name cifar10."""


def main(arguments: Sequence[str]) -> int:
    """Convert one file into another; returns 0."""
    given, out = (Path(argument) for argument in arguments)
    document = json.loads(given.read_text(encoding="utf-8"))
    source = converted(document["entries"], retrieved=document["source"])
    text = json.dumps(source.model_dump(mode="json", exclude_defaults=True), indent=1, ensure_ascii=False)
    out.write_text(text + "\n", encoding="utf-8")
    return 0


def converted(entries: Sequence[dict[str, Any]], retrieved: str) -> Source:
    """Source with its entries in the order of the file.

    Args:
        retrieved: revision of the entries.

    Raises:
        RecordError: if an id occurs twice under one protocol, which means that one of the two names a wrong dataset.
    """
    entries = [{**entry, "dataset": _folder(entry)} for entry in entries]
    seen: set[tuple[str, str]] = set()
    made = []
    for entry in entries:
        protocol = f"{entry['dataset']}_{entry['threat'].lower()}"
        if (protocol, entry["id"]) in seen:
            raise RecordError(
                f"{entry['id']} occurs twice under {protocol}; expected one entry. Set `folder` to the folder of the "
                "file, since the field `dataset` of some files is wrong"
            )
        seen.add((protocol, entry["id"]))
        made.append(_entry(entry, protocol, entry["id"]))
    return Source(
        key="robustbench",
        title="RobustBench: a standardized adversarial robustness benchmark",
        authors="Francesco Croce, Maksym Andriushchenko, Vikash Sehwag, Edoardo Debenedetti, Nicolas Flammarion, "
        "Mung Chiang, Prateek Mittal, Matthias Hein",
        year=2021,
        url="https://robustbench.github.io/",
        licence="MIT (the entries in the repository's folder model_info)",
        retrieved=retrieved,
        note="Accuracies were strings of percentages; counts are restored from them. No outcomes per example, seeds or "
        "intervals were published, so neighbours are compared by unpaired tests.",
        protocols={
            f"{dataset}_{threat.lower()}": _protocol(dataset, threat)
            for dataset, threat in dict.fromkeys((e["dataset"], e["threat"]) for e in entries)
        },
        entries=tuple(made),
    )


def _folder(entry: dict[str, Any]) -> str:
    """Dataset of an entry: that of its folder, if known, because the field `dataset` may be wrong."""
    known = MISFILED.get((entry["threat"], entry["id"], str(entry["clean_acc"])), entry["dataset"])
    return str(entry.get("folder", known))


def _protocol(dataset: str, threat: str) -> PublishedProtocol:
    if threat not in ROBUSTBENCH_NORMS:
        return PublishedProtocol(dataset=dataset, description=f"RobustBench: common corruptions of {dataset}")
    return PublishedProtocol.model_validate(
        {
            "dataset": dataset,
            "norm": ROBUSTBENCH_NORMS[threat],
            "eps_exact": RADII[dataset, threat],
            "description": f"RobustBench: {dataset} under AutoAttack, {EXAMPLES[dataset]} examples",
        }
    )


def _entry(entry: dict[str, Any], protocol: str, system: str) -> Entry:
    dataset, threat = entry["dataset"], entry["threat"]
    total = EXAMPLES[dataset] if threat in ROBUSTBENCH_NORMS else None
    eps = str(Fraction(entry["eps"])) if threat in ROBUSTBENCH_NORMS else None
    found = [
        _number(entry, "clean_acc", "clean_accuracy", total=total),
        _number(entry, "autoattack_acc", "robust_accuracy", attack="autoattack", total=total),
        _number(entry, "external", "robust_accuracy", attack="another evaluation", total=total),
        _number(entry, "reported", "robust_accuracy", attack="as reported", settings={"by": "authors"})
        if threat in ROBUSTBENCH_NORMS
        else None,
        _number(entry, "corruptions_acc", "corruption_accuracy"),
        None
        if threat in ROBUSTBENCH_NORMS
        else _number(entry, "reported", "corruption_accuracy", attack="as reported", settings={"by": "authors"}),
        _number(entry, "corruptions_acc_3d", "corruption_accuracy", settings={"corruptions": "3d"}),
        _number(entry, "corruptions_mce", "corruption_error"),
        _number(entry, "corruptions_mce_3d", "corruption_error", settings={"corruptions": "3d"}),
    ]
    flags = {
        "additional data": entry["additional_data"],
        "unreliable evaluation": entry.get("unreliable") is True,
        f"{entry['number_forward_passes']} forward passes": entry["number_forward_passes"] != 1,
    }
    return Entry(
        system=system,
        protocol=protocol,
        numbers=tuple(number for number in found if number is not None),
        eps_exact=None if eps is None or Fraction(eps) == Fraction(RADII[dataset, threat]) else eps,
        architecture=plain(entry["architecture"]),
        title=plain(entry["name"]),
        authors=plain(entry["authors"]),
        venue=plain(entry["venue"]),
        url=re.sub(r"^http://", "https://", entry["link"].strip()),
        flags=tuple(flag for flag, holds in flags.items() if holds),
    )


def _number(
    entry: dict[str, Any],
    field: str,
    metric: PublishedMetric,
    attack: str = "",
    total: int | None = None,
    settings: dict[str, str | int | float] | None = None,
) -> Number | None:
    text = entry.get(field)
    if text in (None, "", "null"):
        return None
    try:
        share = Fraction(str(text)) / 100
    except ValueError as error:
        raise RecordError(f"{entry['id']} has {field} {text!r}; expected a percentage") from error
    count = None if total is None else share * total
    if count is not None and count.denominator != 1:
        raise RecordError(f"{entry['id']} has {field} {text!r}, which is not a whole number of {total} examples")
    return Number(
        metric=metric,
        value=float(share),
        attack=attack,
        count=None if count is None else int(count),
        total=total,
        settings=settings or {},
        place=f"field {field}",
    )


def plain(text: str) -> str:
    """Text without markup, entities and repeated white space."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
