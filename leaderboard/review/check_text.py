"""Check of the names in a submission, and the display of its text in a review."""

from __future__ import annotations

import re

from benchmark.errors import RecordError
from benchmark.records.record import Record

__all__ = ["APPROVAL", "check_names", "folded", "quoted"]

PLAIN_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+:@/ -]{0,98}[A-Za-z0-9_.+])?")
COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}")
"""Pattern of a plugin's name; names are joined by characters that it excludes, so that none looks like two."""
APPROVAL = re.compile(
    r"verif|official|independ|approv|trust|certif|proved|review|re_?run|endors|attested", re.IGNORECASE
)
"""Words of approval, which no finding contains."""
OF_COUNTS = ("robust_accuracy", "robust_top5_accuracy", "clean_accuracy", "clean_top5_accuracy")
"""Metrics that follow from the counts of a record."""
FOLDS = (("rn", "m"), ("vv", "w"), ("i", "l"), ("1", "l"), ("0", "o"), ("5", "s"))
TAKEN = frozenset({"rank", "ranks", "place", "tler", "claimed", "replayed", "reattacked"})
"""Skeletons of column names of the site, which no metric may have."""


def folded(name: str) -> str:
    """Skeleton of a name, equal for names that look alike, such as mlp and mIp."""
    plain = re.sub(r"[^a-z0-9]", "", name.replace("I", "l").lower())
    for sign, alike in FOLDS:
        plain = plain.replace(sign, alike)
    return plain


def check_names(record: Record) -> None:
    """Check the names that become headings, labels and file names.

    Raises:
        RecordError: if one contains other characters than letters, digits and a few signs.
    """
    system, attack = record.system, record.attack
    named = {
        "suite": [record.suite or "none"],
        "system": [system.dataset, system.model, *system.defenses, *system.poison],
        "attack": [attack.name, attack.distribution, attack.version],
        "threat": [record.threat.goal, record.threat.region, record.threat.surrogate or "none"],
        "metrics": [text for metric in record.metrics for text in (metric.name, metric.unit or "none")],
        "findings": [finding.name for finding in record.findings],
        "splits": list(record.splits),
    }
    for place, names in named.items():
        for name in names:
            if not PLAIN_NAME.fullmatch(name):
                raise RecordError(f"{place} has the name {name[:60]!r}; expected letters, digits and . _ + : @ / -")
    for name in (*named["system"], attack.name):
        if not COMPONENT.fullmatch(name):
            raise RecordError(f"a plugin is called {name[:60]!r}; expected letters, digits and . _ : - alone")
    if not COMPONENT.fullmatch(record.task) or APPROVAL.search(record.task):
        raise RecordError(f"task is {record.task[:60]!r}; expected the name of a task, of letters and digits")
    for name in named["findings"]:
        if APPROVAL.search(name):
            raise RecordError(f"a finding is called {name[:60]!r}; expected a name that reports a fault, not approval")
    for name in named["metrics"]:
        alike = next((one for one in OF_COUNTS if folded(one) == folded(name) and one != name), "")
        if alike or (APPROVAL.search(name) and not name.startswith("certified_")) or folded(name) in TAKEN:
            raise RecordError(
                f"a metric or its unit is called {name[:60]!r}; expected the name of a measurement that no page has "
                f"already{f', unlike {alike}' if alike else ''}"
            )


def quoted(text: str, longest: int = 300) -> str:
    """A stranger's text as Markdown: one line of code in which nothing is interpreted."""
    plain = "".join(c if c.isprintable() else " " for c in text).replace("`", "'").replace("|", "\u00a6")
    plain = " ".join(plain.split())
    return f"`{plain[:longest]}{'...' if len(plain) > longest else ''}`" if plain else "(empty)"
