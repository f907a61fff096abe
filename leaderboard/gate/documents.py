"""Verdict of a gate in the formats of continuous integration: JUnit, SARIF and Markdown."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from benchmark import __version__
from benchmark.records.tables import markdown_cell, table

from .checks import Check, Verdict

__all__ = ["junit", "markdown", "sarif"]

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULES = {
    "missed": "A goal is missed: the upper bound of the share is below it.",
    "undecided": "A goal is undecided with this many examples.",
    "problem": "A cell failed, has a finding that invalidates it, or was never run.",
}
COLUMNS = ("system", "check", "share", "bounds", "asked", "")
MARKS = {"pass": "reached", "fail": "missed", "undecided": "not decidable"}


def junit(verdict: Verdict) -> str:
    """Checks as JUnit test cases: a failure if a goal is missed, an error if nothing can be decided."""
    bad = sum(check.decision.outcome == "fail" for check in verdict.checks)
    open_ = sum(check.decision.outcome == "undecided" for check in verdict.checks) + len(verdict.problems)
    suite = ElementTree.Element(
        "testsuite",
        {"name": "benchmark gate", "tests": str(len(verdict.checks) + len(verdict.problems)), "failures": str(bad),
         "errors": str(open_)},
    )  # fmt: skip
    for check in verdict.checks:
        case = ElementTree.SubElement(suite, "testcase", {"classname": check.of, "name": check.name})
        if check.decision.outcome != "pass":
            kind = "failure" if check.decision.outcome == "fail" else "error"
            told = {"type": check.decision.outcome, "message": check.sentence}
            ElementTree.SubElement(case, kind, told).text = "\n".join(check.places)
    for problem in verdict.problems:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "gate", "name": problem.partition(":")[0]})
        ElementTree.SubElement(case, "error", {"type": "problem", "message": problem})
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def sarif(verdict: Verdict, root: str) -> str:
    """Checks that do not pass, as results of a static analysis, SARIF 2.1.0 (OASIS, 2020).

    Args:
        root: the store's folder as seen by the reader of the file; locations are records below it.
    """
    results = [
        _result("missed" if c.decision.outcome == "fail" else "undecided", c.sentence, _level(c), root, c.places)
        for c in verdict.checks
        if c.decision.outcome != "pass"
    ]
    results += [_result("problem", problem, "error", root, ()) for problem in verdict.problems]
    driver = {
        "name": "benchmark gate",
        "version": __version__,
        "rules": [{"id": name, "shortDescription": {"text": text}} for name, text in RULES.items()],
    }
    document = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(document, indent=2) + "\n"


def _level(check: Check) -> str:
    return "error" if check.decision.outcome == "fail" else "warning"


def _result(rule: str, text: str, level: str, root: str, places: tuple[str, ...]) -> dict[str, object]:
    where = [f"{root}/{place}" for place in places] or [root]
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}}} for uri in where],
    }


def markdown(verdict: Verdict) -> str:
    """Pull request comment: the reason, and a table of all checks."""
    lines = [f"**{verdict.reason}**", ""]
    if verdict.checks:
        lines += [table(COLUMNS, [_row(check) for check in verdict.checks], "markdown"), ""]
    lines += [f"- {markdown_cell(problem)}" for problem in verdict.problems]
    return "\n".join(lines).rstrip() + "\n"


def _row(check: Check) -> tuple[str, ...]:
    found = check.decision
    bounds = f"{100 * found.low:.1f} to {100 * found.high:.1f} %"
    mark = MARKS[found.outcome]
    if found.needed:
        mark += f", about {found.needed} examples needed"
    asked = ("at most " if check.name == "loss" else "") + f"{100 * check.goal:.1f} %"
    return check.of, check.name, f"{100 * found.value:.1f} %", bounds, asked, mark
