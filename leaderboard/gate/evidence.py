"""Evidence for the people responsible for a model: a page structured by regulations, and a model card, in Markdown.

The headings are those of Article 15 of the EU's AI Act (Regulation 2024/1689: accuracy, robustness and
cybersecurity) and of the functions of NIST's AI Risk Management Framework (AI 100-1, 2023). The page states what was
measured; its reader judges if that meets a requirement. Each number links to its record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmark import __version__
from benchmark.records.record import Record
from benchmark.records.tables import markdown_cell as _cell
from benchmark.records.tables import table

from .checks import Tested, Verdict
from .documents import markdown

__all__ = ["evidence", "model_card"]


def evidence(verdict: Verdict, root: str) -> str:
    """Evidence page.

    Args:
        root: the folder of the cells relative to the page, for links.
    """
    lines = [
        "# Evidence of robustness",
        "",
        f"Made by benchmark {__version__} from {sum(len(t.cells) for t in verdict.systems)} records. It states what "
        "was measured; it is not a statement of conformity.",
        "",
        "## Regulation (EU) 2024/1689, Article 15",
        "",
        "### Accuracy (15.1 to 15.3)",
        "",
        *_table(verdict, root, _accuracy, ("system", "clean accuracy", "examples", "record")),
        "### Robustness and resilience against errors (15.4)",
        "",
        *_robustness(verdict, root),
        "### Cybersecurity: adversarial examples, poisoning and confidentiality (15.5)",
        "",
        *_threats(verdict, root),
        "## NIST AI Risk Management Framework",
        "",
        "### Govern",
        "",
        "The goals of the gate are those given to the command that wrote this page:",
        "",
        *_goals(verdict),
        "### Map",
        "",
        *_systems(verdict),
        "### Measure",
        "",
        markdown(verdict),
        "### Manage",
        "",
        *_countermeasures(verdict),
        *_open(verdict),
    ]
    return "\n".join(lines).rstrip() + "\n"


def model_card(verdict: Verdict, root: str) -> str:
    """Model card (Mitchell et al., FAT* 2019, arXiv:1810.03993) of the systems, their use, data and measurements."""
    lines = ["# Model card", ""]
    for tested in _one_per_system(verdict):
        record = tested.record
        lines += [
            f"## {_cell(record.system.name)}, seed {record.seed}",
            "",
            "### Model details",
            "",
            f"- key `{record.system.key}`, weights sha256 `{record.weights_sha256 or 'not recorded'}`",
            f"- model {_cell(record.system.model)}; defenses: {_protections(record)}",
            f"- trained and tested with benchmark {_cell(record.harness or '0.1')}",
            "",
            "### Data",
            "",
            f"- {_cell(record.system.dataset)}, revision `{_cell(record.dataset_revision)}`",
            *(f"- split {_cell(name)}: {split.count} examples" for name, split in sorted(record.splits.items())),
            "",
            "### Intended use and limits",
            "",
            "- The figures hold for these examples and the threats below; they say nothing about other data or "
            "attackers.",
            "",
            "### Quantitative analyses",
            "",
            *_table(verdict, root, _accuracy, ("system", "clean accuracy", "examples", "record"), tested.record),
            *_table(verdict, root, _attacked, ("threat", "attack", "robust accuracy", "record"), tested.record),
            *_table(verdict, root, _by_class, ("threat", "label", "robust", "examples"), tested.record),
        ]
    return "\n".join(lines).rstrip() + "\n"


Figures = tuple[str, ...]


Rows = Callable[[Tested, str], Iterator[Figures]]


def _table(verdict: Verdict, root: str, rows: Rows, header: Figures, of: Record | None = None) -> Iterator[str]:
    told: list[Figures] = []
    for tested in verdict.systems:
        if of is None or tested.record.system.key == of.system.key:
            told += [line for line in rows(tested, root) if line not in told]
    yield from (table(header, told, "markdown"), "")


def _accuracy(tested: Tested, root: str) -> Iterator[Figures]:
    right, total = int(tested.clean.sum()), len(tested.clean)
    yield tested.record.system.name, f"{100 * right / total:.1f} %", str(total), _link(tested, 0, root)


def _attacked(tested: Tested, root: str) -> Iterator[Figures]:
    threat = tested.name.rpartition(", ")[2]
    for at, cell in enumerate(tested.cells):
        held = tested.by[cell.record.attack.name]
        yield threat, cell.record.attack.name, f"{100 * held.mean():.1f} %", _link(tested, at, root)
    yield threat, "all of them", f"{100 * tested.held.mean():.1f} %", ""


def _by_class(tested: Tested, root: str) -> Iterator[Figures]:
    for label in sorted(set(tested.labels.tolist())):
        mine = tested.labels == label
        threat = tested.name.rpartition(", ")[2]
        yield threat, str(label), f"{100 * tested.held[mine].mean():.1f} %", str(int(mine.sum()))


def _robustness(verdict: Verdict, root: str) -> Iterator[str]:
    yield "Random noise and natural changes of the input, if tested, are listed among the attacks:"
    yield ""
    yield from _table(verdict, root, _attacked, ("threat", "attack", "remaining accuracy", "record"))


def _threats(verdict: Verdict, root: str) -> Iterator[str]:
    access = {
        "gradients": "gradients of the deployed system",
        "scores": "scores of the deployed system",
        "labels": "labels of the deployed system",
        "transfer": "another system, without queries to this one",
    }
    seen: dict[str, None] = {}
    poisoned = False
    for tested in verdict.systems:
        for cell in tested.cells:
            threat = cell.record.threat
            knows = "knows the defense" if threat.aware else "does not know the defense"
            budget = f"at most {threat.queries} queries" if threat.queries is not None else "no query limit"
            seen[f"- {threat.norm} {threat.eps_exact}: {access[threat.access]}, {knows}, {budget}"] = None
            poisoned |= bool(cell.record.system.poison)
    yield "Attackers tested:"
    yield ""
    yield from sorted(seen)
    yield ""
    yield "Poisoned training data: " + ("tested, see the systems." if poisoned else "not tried.")
    yield "Extraction of the model or of its training data: not tested; the benchmark has no such attack."
    yield ""


def _goals(verdict: Verdict) -> Iterator[str]:
    goals = {(check.name, check.goal) for check in verdict.checks}
    yield from (f"- {_cell(name)}: {100 * goal:.1f} %" for name, goal in sorted(goals))
    yield ""


def _systems(verdict: Verdict) -> Iterator[str]:
    for tested in _one_per_system(verdict):
        record = tested.record
        yield f"- {_cell(record.system.name)}, seed {record.seed}, key `{record.system.key}`"
    yield ""


def _countermeasures(verdict: Verdict) -> Iterator[str]:
    for tested in _one_per_system(verdict):
        yield f"- {_cell(tested.record.system.name)}: {_protections(tested.record)}"
    yield ""


def _open(verdict: Verdict) -> Iterator[str]:
    left = [c.sentence for c in verdict.checks if c.decision.outcome != "pass"] + list(verdict.problems)
    if left:
        yield "To be resolved before release:"
        yield ""
        yield from (f"- {_cell(sentence)}" for sentence in left)


def _protections(record: Record) -> str:
    return ", ".join(map(_cell, record.system.defenses)) or "none"


def _one_per_system(verdict: Verdict) -> list[Tested]:
    return list({tested.record.system.key: tested for tested in reversed(verdict.systems)}.values())[::-1]


def _link(tested: Tested, at: int, root: str) -> str:
    cell = tested.cells[at]
    return f"[{cell.record.key[:8]}]({root}/{cell.place})"
