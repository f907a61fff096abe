"""Findings of a leaderboard, from single records and from comparisons of records.

Each check looks for numbers that are impossible if every attack works as described; a finding is evidence against the
evaluation, not against the system.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmark.records.record import Record

from ..board import Alarm, AttackColumn, Score

__all__ = [
    "certified_yet_broken",
    "clean_disagrees",
    "ignoring_beats_knowing",
    "noise_beats_attack",
    "of_records",
    "others_beat_white_box",
    "out_of_order",
    "rises_with_eps",
]

NO_ATTACK = ("noise", "none")
"""Attacks that do not look where to go."""
TRANSFER = "transfer"
STRONGER_FIRST = (("bim", "fgsm"), ("pgd", "fgsm"), ("apgd", "fgsm"), ("autoattack", "pgd"), ("autoattack", "apgd"))
"""Pairs of a stronger attack and a weaker one that is a part of it."""


def of_records(records: Iterable[Record], row: str) -> list[Alarm]:
    """Findings in the records; the same finding in several cells is one alarm."""
    cells: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for record in records:
        for finding in record.findings:
            cells[finding.name, finding.severity, finding.evidence].append(record.key)
    return [Alarm(*what, tuple(sorted(keys)), row) for what, keys in sorted(cells.items())]


def noise_beats_attack(columns: Mapping[str, AttackColumn], scores: Mapping[str, Score], row: str) -> list[Alarm]:
    """Random noise breaks more examples than an attack that searches."""
    noise = [scores[key] for key in columns if key in scores and columns[key].name == "noise"]
    if not noise:
        return []
    best = max(noise, key=lambda score: score.broken)
    return [
        Alarm(
            "noise_beats_attack",
            "warning",
            f"random noise breaks {best.broken:g} of {best.robust.total} examples and {columns[key].label} "
            f"{score.broken:g}: that attack is weaker than chance here",
            tuple(sorted({*best.keys, *score.keys})),
            row,
        )
        for key, score in sorted(scores.items(), key=lambda item: columns[item[0]].label)
        if columns[key].name not in NO_ATTACK and score.broken < best.broken
    ]


def others_beat_white_box(columns: Mapping[str, AttackColumn], scores: Mapping[str, Score], row: str) -> list[Alarm]:
    """An attack without the system's gradients breaks more than every attack with them: a sign of masked gradients.

    It asked for no gradient, or worked on another system: black-box and transfer attacks are checks of the white-box
    ones (Carlini et al., 2019, arXiv:1902.06705).
    """
    real = {key: score for key, score in scores.items() if columns[key].name not in NO_ATTACK}
    seen = {key for key in real if columns[key].access != TRANSFER and real[key].backwards > 0}
    blind = {key for key in real if columns[key].access != TRANSFER} - seen
    white = [key for key in columns if key in seen]
    found = []
    for name, keys, how in (
        ("black_box_beats_white_box", blind, "without a gradient"),
        ("transfer_beats_white_box", set(real) - seen - blind, "made on another system"),
    ):
        others = [key for key in columns if key in keys]
        if white and others:
            strongest = max(white, key=lambda key: real[key].broken)
            winner = max(others, key=lambda key: real[key].broken)
            if real[winner].broken > real[strongest].broken:
                found.append(_masked(name, how, columns, real, winner, strongest, row))
    return found


def _masked(
    name: str,
    how: str,
    columns: Mapping[str, AttackColumn],
    scores: Mapping[str, Score],
    winner: str,
    strongest: str,
    row: str,
) -> Alarm:
    best, white = scores[winner], scores[strongest]
    return Alarm(
        name,
        "warning",
        f"{columns[winner].label} breaks {best.broken:g} of {best.robust.total} examples {how}, and "
        f"{columns[strongest].label}, the strongest attack with gradients, {white.broken:g}: the gradients may be "
        "masked",
        tuple(sorted({*best.keys, *white.keys})),
        row,
    )


def out_of_order(columns: Mapping[str, AttackColumn], scores: Mapping[str, Score], row: str) -> list[Alarm]:
    """An attack breaks less than a part of it would: FGSM is one step of PGD (Carlini et al., 2019, arXiv:1902.06705).

    Of several settings of an attack the best is compared, with the same access, surrogate and draws; an attack with a
    smaller budget is not compared.
    """
    found = []
    for stronger, weaker in STRONGER_FIRST:
        for key, score in sorted(scores.items(), key=lambda item: columns[item[0]].label):
            if columns[key].name != weaker:
                continue
            rivals = [k for k in scores if columns[k].name == stronger and _as_free(columns[k], columns[key])]
            if not rivals:
                continue
            best = max(rivals, key=lambda k: (scores[k].broken, columns[k].label))
            if scores[best].broken < score.broken:
                found.append(
                    Alarm(
                        "attacks_out_of_order",
                        "warning",
                        f"{columns[best].label} breaks {scores[best].broken:g} of {score.robust.total} examples and "
                        f"{columns[key].label} {score.broken:g}: the first does more of the same, so it "
                        "fails somewhere",
                        tuple(sorted({*scores[best].keys, *score.keys})),
                        row,
                    )
                )
    return found


def _as_free(one: AttackColumn, other: AttackColumn) -> bool:
    """True if the first attack had the access of the other, and at least its budget."""
    same = (one.access, one.surrogate, one.eot) == (other.access, other.surrogate, other.eot)
    return same and (one.queries is None or (other.queries is not None and one.queries >= other.queries))


def rises_with_eps(
    columns: Mapping[str, AttackColumn],
    small: tuple[str, Mapping[str, Score]],
    large: tuple[str, Mapping[str, Score]],
    row: str,
) -> list[Alarm]:
    """An attack breaks fewer examples in a larger ball.

    Args:
        small, large: a radius as text with the scores under it.
    """
    found = []
    for key in sorted(set(small[1]) & set(large[1]), key=lambda key: columns[key].label):
        before, after = small[1][key], large[1][key]
        if before.given is None and after.given is None and after.robust.count > before.robust.count:
            found.append(
                Alarm(
                    "accuracy_rises_with_eps",
                    "warning",
                    f"{columns[key].label} leaves {after.robust.count:g} of {after.robust.total} examples right at eps "
                    f"{large[0]} and {before.robust.count:g} at {small[0]}: a larger ball cannot be safer, so the "
                    "attack fails somewhere",
                    tuple(sorted({*before.keys, *after.keys})),
                    row,
                )
            )
    return found


def certified_yet_broken(crossed: int, keys: Sequence[str], row: str) -> list[Alarm]:
    """Examples that are certified and broken: the certificate or the verdict is wrong."""
    if not crossed:
        return []
    return [
        Alarm(
            "certified_yet_broken",
            "error",
            f"{crossed} examples are both certified and broken at this radius: the certificate or the core's "
            "verdict is wrong",
            tuple(sorted(keys)),
            row,
        )
    ]


def ignoring_beats_knowing(broken: int, keys: Sequence[str], row: str) -> list[Alarm]:
    """Examples broken only by attackers who know less about the system: the aware attacks are too weak."""
    if not broken:
        return []
    return [
        Alarm(
            "oblivious_beats_aware",
            "warning",
            f"{broken} examples are broken by no defense-aware attack, but by one that ignores the defense or comes "
            "from another network; they count as broken, since an aware attacker may do the same, and the aware "
            "attacks are weaker than they could be",
            tuple(sorted(keys)),
            row,
        )
    ]


def clean_disagrees(disagreeing: int, keys: Sequence[str], row: str) -> list[Alarm]:
    """Cells of one trained system that disagree on the correctly classified clean inputs."""
    if not disagreeing:
        return []
    return [
        Alarm(
            "clean_accuracy_differs",
            "warning",
            f"{disagreeing} examples are correct on the clean input in some cells of one trained system and wrong in "
            "others; only those correct in all of them count as correct",
            tuple(sorted(keys)),
            row,
        )
    ]
