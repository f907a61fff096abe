"""Parts that many records have in common are kept once, and no record changes."""

from __future__ import annotations

from pathlib import Path

from benchmark_leaderboard.cells.shared import SharedParts

from benchmark.records.record import read_record
from tests.leaderboard.made_records import made_cell


def test_equal_parts_are_one_object_and_others_are_not(tmp_path: Path) -> None:
    cells = [
        made_cell(tmp_path, clean=[True, False], distance=[0.05, 1.0], attack=attack, model_params={"width": width})
        for attack, width in (("pgd", 8), ("fgsm", 8), ("pgd", "8"), ("pgd", 8.0))
    ]
    shared = SharedParts()
    first, attacked, text, number = (shared.keep(read_record(cell)) for cell in cells)
    assert first.system is attacked.system
    assert first.threat is attacked.threat is text.threat
    assert first.attack is text.attack is not attacked.attack
    assert len({id(one.system) for one in (first, text, number)}) == 3, "8, '8' and 8.0 are other settings"
    assert [first, attacked, text, number] == [read_record(cell) for cell in cells]
    assert first.model_copy(update={"error": "why"}).model_fields_set == first.model_fields_set
