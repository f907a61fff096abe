"""A board under attack: the ranks of honest rows are those that they have without anybody else."""

import os
from pathlib import Path

import pytest

from tests.leaderboard.simulated_board import SYBIL_TRICKS, VANDAL_TRICKS, Simulation, simulate, standing

FULL = "BENCHMARK_FULL_SIMULATION"


def _same_ranks(root: Path, **sizes: int) -> Simulation:
    alone = simulate(root / "alone", **{**sizes, "sybils": 0, "vandals": 0})
    under_attack = simulate(root / "attacked", **sizes)
    assert not alone.refused, alone.reasons
    assert not under_attack.refused["honest"], under_attack.reasons["honest"]
    assert under_attack.accepted["honest"] == alone.accepted["honest"]
    assert standing(under_attack) == standing(alone)
    assert len(standing(alone)) == sizes["honest"]
    return under_attack


def test_honest_ranks_are_those_without_sybils_and_vandals(tmp_path: Path) -> None:
    seen = _same_ranks(tmp_path, honest=6, sybils=3, vandals=2, submissions=50)
    tried = {kind for kind in (*seen.accepted, *seen.refused) if kind != "honest"}
    assert tried == {f"sybil: {trick}" for trick in SYBIL_TRICKS} | {f"vandal: {trick}" for trick in VANDAL_TRICKS}
    assert not [kind for kind in seen.accepted if kind.startswith("vandal")]


@pytest.mark.skipif(FULL not in os.environ, reason=f"set {FULL}=1: 500 submissions take minutes")
@pytest.mark.parametrize("seed", [0])
def test_the_same_with_fifty_honest_submitters_twenty_sybils_and_five_vandals(tmp_path: Path, seed: int) -> None:
    seen = _same_ranks(tmp_path, honest=50, sybils=20, vandals=5, submissions=500, seed=seed)
    assert seen.count >= 490
