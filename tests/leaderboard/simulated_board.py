"""A board under attack: honest submitters, sybils and vandals take turns, and every submission is reviewed.

Sybils bring rows of their own that look good because nothing attacked them, imitate the names of others, or add good
seeds to rows that are not theirs. Vandals forge clean answers, weights and broken examples of published rows, and
publish cells a second time. The proof of a witness, which costs a forward pass, is the truth that the simulation knows.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_leaderboard.board import Board
from benchmark_leaderboard.cells.cell import Cell
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.review import check as reviewing
from benchmark_leaderboard.review.check import check
from benchmark_leaderboard.review.proofs import Proof
from benchmark_leaderboard.review.review import put

from tests.leaderboard.made_submission import Spoiler, made_submission

N, RIGHT = 60, 50
"""Examples, and how many of them every honest system gets right without an attack, as its card says."""
ATTACKS = {"noise": 6.0, "fgsm": 1.6, "bim": 1.1}
"""Attacks of a newcomer, with how much farther than the nearest adversarial example each of them finds one."""
SYBIL_TRICKS = ("noise alone", "imitation", "foreign seed", "few attacks")
VANDAL_TRICKS = ("all clean wrong", "one clean wrong", "other weights", "unproved breaks", "again")


@dataclass
class Simulation:
    """The state of a simulated board.

    truth: per honest system the clean answers, the nearest adversarial distances and the slack of attacks.
    reasons: the last one for which each kind was refused.
    """

    root: Path
    results: Path
    rng: np.random.Generator
    truth: dict[str, Any] = field(default_factory=dict)
    honest: set[str] = field(default_factory=set)
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def submit(self, kind: str, proved: bool, spoil: Any = None, **changes: Any) -> None:
        """Review one submission, and publish it if it is accepted."""
        self.count += 1
        place = self.root / str(self.count)
        parcel = made_submission(place / "store", place / "parcel", **{"minimal": False, **changes})
        if spoil is not None:
            spoil(Spoiler(parcel))
        original = reviewing.prove
        reviewing.prove = lambda root, cells, *_: _told(cells, proved)
        try:
            review = check(parcel, [self.results])
        finally:
            reviewing.prove = original
        if review.accepted:
            self.accepted[kind] += 1
            put(review, self.results)
        else:
            self.refused[kind] += 1
            self.reasons[kind] = review.refusals[0]
        shutil.rmtree(place)

    def cell(self, name: str, attack: str) -> Mapping[str, Any]:
        """The true outcome of an attack on an honest system."""
        clean, nearest, slack = self.truth[name]
        far = nearest * (1 + (ATTACKS.get(attack, 1.0) - 1) * slack)
        return {"model": name, "attack": attack, "clean": clean, "distance": np.where(far <= 0.1, far, np.inf)}


def _told(cells: Mapping[str, Cell], proved: bool) -> dict[str, Proof]:
    return {key: Proof(proved, False, "proved" if proved else "its data are not available") for key in cells}


def simulate(root: Path, *, honest: int, sybils: int, vandals: int, submissions: int, seed: int = 0) -> Simulation:
    """Let everybody take turns, in a random order; honest submissions are the same whatever the others do."""
    of = Simulation(root, root / "results", np.random.default_rng(seed))
    plan = [("honest", at, attack) for at in range(honest) for attack in ATTACKS]
    plan += [("strong", int(of.rng.integers(honest)), f"expert{turn}") for turn in range(honest // 2)]
    for at in range(honest):
        clean = np.ones(N, bool)
        clean[of.rng.choice(N, N - RIGHT, replace=False)] = False
        of.truth[f"net{at:02d}x"] = (clean, of.rng.gamma(3.0, 0.025 * (1 + at % 8), N), of.rng.random(N))
    others = max(0, submissions - len(plan)) if sybils or vandals else 0
    turns: list[tuple[str, int, str]] = list(plan)
    villains = np.random.default_rng([seed, 1])
    for _ in range(others):
        sybil = villains.random() < sybils / max(1, sybils + vandals)
        trick = str(villains.choice(SYBIL_TRICKS if sybil else VANDAL_TRICKS))
        who = int(villains.integers(max(1, sybils if sybil else vandals)))
        turns.insert(int(villains.integers(3, len(turns) + 1)), ("sybil" if sybil else "vandal", who, trick))
    published: list[tuple[str, str]] = []
    for kind, who, what in turns:
        if kind in ("honest", "strong"):
            system = f"net{who:02d}x"
            if kind == "strong" and not any(seen == system for seen, _ in published):
                continue
            of.submit("honest", True, **of.cell(system, what))
            published.append((system, what))
        else:
            victim = published[int(villains.integers(len(published)))]
            _misbehave(of, kind, who, what, victim, villains)
    return of


def _misbehave(
    of: Simulation, kind: str, who: int, trick: str, victim: tuple[str, str], rng: np.random.Generator
) -> None:
    """One submission of somebody who wants a better place, or another one to have a worse one."""
    name, attack = victim
    clean = of.truth[name][0]
    nothing = {"clean": np.arange(N) < RIGHT, "distance": [np.inf] * N}
    label = f"{kind}: {trick}"
    fresh = f"by{who}_{rng.integers(10**9)}"
    if trick == "noise alone":
        of.submit(label, True, model=f"sybil{who}", attack="noise", seed=int(rng.integers(99)), **nothing)
    elif trick == "few attacks":
        of.submit(label, True, model=f"lazy{who}_{rng.integers(9)}", attack="fgsm", **nothing)
    elif trick == "imitation":
        of.submit(label, True, model=name.replace("net", "nEt"), attack="bim", **nothing)
    elif trick == "foreign seed":
        of.submit(label, True, model=name, attack="noise", seed=int(rng.integers(1, 99)), **nothing)
    elif trick == "again":
        of.submit(label, True, **of.cell(name, attack))
    elif trick == "unproved breaks":
        of.submit(label, False, model=name, attack=fresh, clean=clean, distance=np.where(clean, 0.05, np.inf))
    elif trick == "other weights":

        def other(spoiler: Spoiler) -> None:
            for rewrite in (spoiler.record, spoiler.card):
                rewrite(lambda d: d.update(weights_sha256="0" * 64))

        of.submit(label, True, other, model=name, attack=fresh, clean=clean, distance=[np.inf] * N)
    else:
        forged = np.zeros(N, bool) if trick == "all clean wrong" else clean & (np.arange(N) != 0)

        def spoil(spoiler: Spoiler) -> None:
            spoiler.card(lambda d: d.update(test_correct=int(forged.sum())))

        of.submit(label, True, spoil, model=name, attack=fresh, clean=forged, distance=[np.inf] * N)


def standing(of: Simulation) -> dict[str, tuple[Any, ...]]:
    """Rank interval and robust examples of every ranked row, by its label."""
    (board,) = _boards(of)
    return {
        row.label: (row.ranks.low, row.ranks.high, row.robust.count, row.clean.count)
        for row in board.rows
        if row.ranks is not None
    }


def _boards(of: Simulation) -> tuple[Board, ...]:
    return tuple(aggregate(*read([of.results])).boards)
