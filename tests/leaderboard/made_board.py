"""A leaderboard written down by hand, for the tests of the site: rendering needs no aggregation."""

from __future__ import annotations

import numpy as np
from benchmark_leaderboard.board import (
    Alarm,
    AttackColumn,
    AttackStanding,
    Board,
    Conditions,
    Curve,
    CurveSet,
    Leaderboard,
    Pairs,
    Problem,
    Protocol,
    Ranks,
    Rate,
    Resolution,
    Row,
    Run,
    Score,
    Spread,
    Step,
    Unfinished,
)

from benchmark.records.described import AttackInfo, SystemInfo, ThreatInfo
from benchmark.records.document import content_key
from benchmark.records.record import Record

N = 500


def rate(count: int, total: int = N) -> Rate:
    value = count / total
    return Rate(count, total, value, max(0.0, value - 0.04), min(1.0, value + 0.04))


def made_leaderboard(
    systems: int = 3, attacks: int = 3, text: str = "", front: int = 2
) -> tuple[Leaderboard, dict[str, Record]]:
    """A board with so many systems and attacks; `text` stands in every field that a stranger can fill."""
    records: dict[str, Record] = {}
    protocol = Protocol(
        content_key(["board", text]),
        Conditions(f"made{text or '_v1'}", True, f"digits{text}", f"r1{text}", "ab" * 32, N, "linf", "untargeted", True,
                   "full"),
        0.1, "1/10",
    )  # fmt: skip
    names = ("noise", "fgsm", "pgd", "deepfool", "square")
    columns = tuple(
        AttackColumn(
            f"c{at}", f"{names[at % 5]}{text}", f"{names[at % 5]}{text} {at // 5 or ''}".strip(), {"steps": text or at},
            f"adversarial-benchmark{text}", (f"0.1{text}",), "gradients", None, 1, "", False, False,
        )
        for at in range(attacks)
    )  # fmt: skip
    rows = tuple(_row(place, columns, protocol, text, front, systems, records) for place in range(systems))
    curve = Curve(
        rows[0].key, rows[0].label, ((0.0, 0.96, 0.9, 1.0), (0.05, 0.7, 0.6, 0.8), (0.1, 0.4, 0.3, 0.5)),
        0.71, 0.66, 0.75, 0.1, (f"deepfool{text}",), rows[0].keys[:1],
    )  # fmt: skip
    nothing = np.zeros((systems, systems))
    board = Board(
        protocol,
        columns,
        rows,
        ((0, front - 1),),
        Pairs(nothing.astype(np.int64), nothing + 1, nothing + 1),
        Resolution(systems - 1, 1, systems * (systems - 1) // 2, 1, 0.031, 120),
        tuple(AttackStanding(at, systems, rate(200), 3, 10, 10, 1.5, None) for at in range(attacks)),
        (Unfinished("f" * 24, "failed", f"mlp{text}", f"pgd{text}", 0, f"ValueError: no{text}"),),
        (Alarm("noise_beats_attack", "warning", f"noise beats fgsm{text}", rows[0].keys[:1]),),
    )
    curves = CurveSet("curves1", protocol.conditions, 0.1, (protocol.key,), (curve,))
    problems = (Problem(f"cells/x{text}/record.json", f"it is no record{text}"),)
    return Leaderboard((board,), (curves,), problems, ()), records


def _row(
    place: int,
    columns: tuple[AttackColumn, ...],
    protocol: Protocol,
    text: str,
    front: int,
    systems: int,
    records: dict[str, Record],
) -> Row:
    system = SystemInfo(
        key=content_key([place, text]), dataset=protocol.conditions.dataset, model=f"mlp{text}",
        defenses=[f"adversarial_training{text}"] if place % 2 == 0 else [], poison=[], config={"model": {"name": text}},
    )  # fmt: skip
    scores: list[Score] = []
    for column in columns:
        key = content_key([place, column.key, text])
        records[key] = Record(
            key=key, status="complete", suite=protocol.conditions.suite, official=True, seed=0, system=system,
            threat=ThreatInfo(norm="linf", eps=0.1, eps_exact="1/10", access="gradients", aware=True, targeted=False,
                              goal="untargeted", region="full", queries=None, eot=1),
            attack=AttackInfo(name=column.name, params=column.params, distribution="d", version="1", minimal=False,
                              randomized=False),
            provenance={"overrides": [f"attack={column.name}", f"seed={place}", "store.root=/secret", "tracker=[]"]},
        )  # fmt: skip
        robust = max(0, 420 - 400 * place // systems - 11 * len(scores))
        scores.append(Score(rate(robust), 40, len(scores) == 1, 0, 0.07, 400, 400, 1.5, (key,), robust + 30))
    keys = tuple(score.keys[0] for score in scores)
    robust, clean = rate(int(scores[-1].robust.count) - 7), rate(480 - place % 50)
    spread = Spread(robust.value, robust.low, robust.high, None)
    low, high = (1, front) if place < front else (place + 1, place + 1)
    return Row(
        content_key(["row", place, text]), f"mlp {place}{text}", system, place + 1,
        Ranks(low, high, low, high, 0.5), robust, clean, None, spread, spread, 0, 0, tuple(scores),
        (Run(system.key, 0, clean, robust, b"", b"", "cd" * 32, keys),),
        (Alarm("zero_gradients", "warning", f"the first gradient is zero{text}", keys[:1], content_key(place)),),
        keys, (Step("2026-01-01", tuple(column.label for column in columns), 1, robust, ()),),
    )  # fmt: skip
