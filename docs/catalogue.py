"""The table of methods in README.md, made from what is declared: `python docs/catalogue.py` brings it up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from marked import filled

from benchmark import registry
from benchmark.registry.catalogue import Description, catalogue

README = Path(__file__).parents[1] / "README.md"
MARK = "catalogue: python docs/catalogue.py"


def table() -> str:
    """The plugins of this distribution as a Markdown table, by kind."""
    lines = ["| plugin | what it is | can do |", "|---|---|---|"]
    for description in catalogue():
        if description.declared.distribution == registry.DISTRIBUTION:
            words = [description.summary.replace("|", "\\|"), paper(description)]
            name = f"`{description.declared.kind}={description.declared.name}`"
            lines.append(f"| {name} | {'. '.join(word for word in words if word)} | {abilities(description)} |")
    return "\n".join(lines) + "\n"


def paper(description: Description) -> str:
    """The paper, without the full stop."""
    return description.paper.rstrip(".").replace("|", "\\|")


def abilities(description: Description) -> str:
    """Norms, access and flags, in a few words."""
    can = description.supports
    if not can:
        return ", ".join(flag for flag in ("randomized", "detects", "optimizes") if description.flags.get(flag))
    words = [" ".join(can["norms"]), str(can["access"])]
    return ", ".join([*words, *(flag for flag in ("targeted", "top5", "minimal", "randomized") if can.get(flag))])


def main() -> int:
    """Write the table into the README."""
    README.write_text(filled(README.read_text(encoding="utf-8"), {MARK: table()}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
