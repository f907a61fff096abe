"""The tables of models-without-gradients.md from a store: `python docs/model_kinds_table.py results`.

After `benchmark run suite=tree_distances`, `suite=model_kinds`, and the certificates of its linear models and trees.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.display import interval, percent
from marked import filled

from benchmark.errors import RecordError
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import Record, read_record

PAGE = Path(__file__).parent / "models-without-gradients.md"
TREES, MATRIX = "trees: python docs/model_kinds_table.py STORE", "matrix: python docs/model_kinds_table.py STORE"
DATASETS = {"digits": "digits", "breast_cancer": "breast cancer", "table": "Spambase"}
MODELS = {
    "sklearn LogisticRegression": "logistic regression (scikit-learn)",
    "sklearn RandomForestClassifier": "random forest (scikit-learn)",
    "sklearn GradientBoostingClassifier": "gradient boosting (scikit-learn)",
    "xgboost": "XGBoost",
    "keras": "network (Keras)",
    "onnx": "network (ONNX)",
    "http": "support vector machine (HTTP)",
}
ATTACKS = {
    "noise": "noise", "square": "Square", "hop_skip_jump": "HopSkipJump", "surrogate_gradient": "surrogate gradient",
    "substitute": "substitute",
}  # fmt: skip
NEAREST = {"hop_skip_jump": "HopSkipJump", "rays": "RayS"}

Cell = tuple[Record, Path]
Cells = dict[tuple[str, str, str], Cell]


def cells(store: Path, suite: str) -> Cells:
    """Complete cells of a suite, with their folders, by dataset, model and attack."""
    found: Cells = {}
    for path in sorted((store / "cells").glob("*/record.json")):
        record = read_record(path)
        if (record.suite or "").partition("@")[0] == suite and record.official and record.status == "complete":
            found[record.system.dataset, record.system.model_name, record.attack.name] = record, path.parent
    return found


def certificates(store: Path) -> dict[tuple[str, str], torch.Tensor]:
    """Certified distances of the test examples by dataset and model, of cells without an attack."""
    found = {}
    for path in sorted((store / "cells").glob("*/record.json")):
        record = read_record(path)
        if record.status == "complete" and record.attack.name == "none" and record.certifiers:
            outcomes = Outcomes.load(path.parent / "outcomes.safetensors")
            found[record.system.dataset, record.system.model_name] = torch.where(
                outcomes.clean_correct, outcomes.certified, 0.0
            )
    return found


def trees(found: Cells) -> str:
    """One row per dataset and ensemble: shares certified and left by each attack, and distances over exact ones."""
    columns = [f"left by {name} | its distance over the certified one" for name in NEAREST.values()]
    lines = [f"| data | ensemble | correct | certified at 1/10 | {' | '.join(columns)} | undercut |"]
    lines.append("|---" * (5 + 2 * len(NEAREST)) + "|")
    for dataset, data in DATASETS.items():
        for model, title in MODELS.items():
            own = [found[dataset, model, attack] for attack in NEAREST if (dataset, model, attack) in found]
            if len(own) == len(NEAREST):
                lines.append(_tree_row(data, title, own))
    return "\n".join(lines) + "\n"


def _tree_row(data: str, title: str, own: list[Cell]) -> str:
    parts, undercut = [], 0
    for record, folder in own:
        outcomes = Outcomes.load(folder / "outcomes.safetensors")
        assert record.counts is not None
        wrong = outcomes.attacked & outcomes.adversarial
        undercut += int((outcomes.linf[wrong] < outcomes.certified[wrong]).sum())
        hit = outcomes.broken & (outcomes.certified > 0)
        ratio = (outcomes.linf[hit] / outcomes.certified[hit]).double()
        parts += [_share(record.counts.robust_correct, record.counts.total), f"{float(torch.median(ratio)):.3f}"]
    counts = own[0][0].counts
    assert counts is not None
    proved = _share(int((outcomes.attacked & (outcomes.certified >= record.threat.eps)).sum()), counts.total)
    return f"| {data} | {title} | {counts.clean_correct} | {proved} | {' | '.join(parts)} | {undercut} |"


def matrix(found: Cells, proved: dict[tuple[str, str], torch.Tensor]) -> str:
    """One row per dataset and model, for the datasets with every model; a failed cell has no result."""
    lines = [f"| data | model | correct | certified at 1/10 | {' | '.join(ATTACKS.values())} | undercut |"]
    lines.append("|---" * (5 + len(ATTACKS)) + "|")
    for dataset, data in DATASETS.items():
        rows = {model: [found.get((dataset, model, attack)) for attack in ATTACKS] for model in MODELS}
        if not all(any(row) for row in rows.values()):
            continue
        for model, row in rows.items():
            own = [cell for cell in row if cell is not None]
            counts = [None if cell is None else cell[0].counts for cell in row]
            shares = " | ".join("no result" if one is None else _share(one.robust_correct, one.total) for one in counts)
            correct = next(one.clean_correct for one in counts if one is not None)
            held, undercut = _proved(own, proved.get((dataset, model)))
            lines.append(f"| {data} | {MODELS[model]} | {correct} | {held} | {shares} | {undercut} |")
    return "\n".join(lines) + "\n"


def _proved(own: list[Cell], distance: torch.Tensor | None) -> tuple[str, str]:
    """Share certified at the radius of the threat, and number of successes that are nearer than their certificate."""
    if distance is None:
        return "", ""
    undercut = 0
    for _, folder in own:
        outcomes = Outcomes.load(folder / "outcomes.safetensors")
        wrong = outcomes.attacked & outcomes.adversarial
        undercut += int((outcomes.linf[wrong] < distance[wrong]).sum())
    return _share(int((distance >= own[0][0].threat.eps).sum()), len(distance)), str(undercut)


def _share(right: int, total: int) -> str:
    low, high = wilson(right, total)
    return f"{percent(right / total, low, high)} ({interval(low, high)})"


def main(arguments: Iterable[str]) -> int:
    """Write the tables of the store that is named into the page.

    Raises:
        RecordError: if it has no cell of either suite.
    """
    (store,) = map(Path, arguments)
    known, kinds = cells(store, "tree_distances"), cells(store, "model_kinds")
    if not known and not kinds:
        raise RecordError(f"{store} has no complete cell of tree_distances or model_kinds; run one of these suites")
    made = {
        **({TREES: trees(known)} if known else {}),
        **({MATRIX: matrix(kinds, certificates(store))} if kinds else {}),
    }
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
