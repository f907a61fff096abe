"""The page of models without gradients: no attack leaves less than is certified."""

from __future__ import annotations

from tests.house.checkout import ROOT

PAGE = (ROOT / "docs" / "models-without-gradients.md").read_text(encoding="utf-8")


def test_no_attack_on_the_page_leaves_less_than_is_certified() -> None:
    part = PAGE.partition("<!-- trees")[2].partition("<!-- end of trees")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")
    ]
    assert len(rows) == 1 + 9
    for _, _, correct, certified, *attacks, undercut in rows[1:]:
        left = [float(text.split()[0]) for text in attacks[::2]]
        assert float(certified.split()[0]) <= min(left) <= max(left) <= float(correct)
        assert all(float(ratio) >= 1.0 for ratio in attacks[1::2])
        assert undercut == "0"
