"""The page of models without gradients: no attack leaves less than is certified."""

from __future__ import annotations

from tests.house.checkout import ROOT

PAGE = (ROOT / "docs" / "models-without-gradients.md").read_text(encoding="utf-8")


def rows(mark: str) -> list[list[str]]:
    """Cells of a table of the page, without its head."""
    part = PAGE.partition(f"<!-- {mark}")[2].partition(f"<!-- end of {mark}")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[1:]]


def test_no_attack_on_the_page_leaves_less_than_is_certified() -> None:
    found = rows("trees")
    assert len(found) == 9
    for _, _, correct, certified, *attacks, undercut in found:
        left = [float(text.split()[0]) for text in attacks[::2]]
        assert float(certified.split()[0]) <= min(left) <= max(left) <= float(correct)
        assert all(float(ratio) >= 1.0 for ratio in attacks[1::2])
        assert undercut == "0"


def test_every_kind_of_model_is_in_the_matrix_on_every_data_set() -> None:
    found = rows("matrix")
    assert len(found) == len({(data, model) for data, model, *_ in found}) == 3 * 7
    for data, model, correct, certified, *attacks, undercut in found:
        left = [float(text.split()[0]) for text in attacks]
        assert len(left) == 5, (data, model)
        assert max(left) <= float(correct)
        assert (certified == "") == (undercut == "") == model.endswith(("(Keras)", "(ONNX)", "(HTTP)"))
        if certified:
            assert float(certified.split()[0]) <= min(left)
            assert undercut == "0"
