"""The results as a dataset in the layout of the Hugging Face Hub, and the index of the site's JSON files.

The folder `dataset` is a complete repository of the Hub: a card whose header names the CSV files of each configuration
(https://huggingface.co/docs/hub/datasets-manual-configuration), and these files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..board import Board, Leaderboard, Row
from ..words.downloads import Value, as_csv, as_json
from .column import used
from .paths import Paths, stem

__all__ = ["API_VERSION", "dataset_files", "index_file"]

API_VERSION = 1
"""Version of the index and of the layout that it describes; the meaning of a field never changes."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_files(
    leaderboard: Leaderboard, systems: Mapping[str, Sequence[tuple[Board, Row]]], name: str
) -> Iterator[tuple[str, str]]:
    """The card, one line for each attack on each system, and one for each system on each board."""
    results = [_result(board, row, at) for board in leaderboard.boards for row in board.rows for at in _met(row)]
    standings = [_standing(board, row) for entries in systems.values() for board, row in entries]
    if not results:
        return
    size = next((text for most, text in SIZES if len(results) < most), "n>1M")
    yield "dataset/README.md", DATASET_CARD.format(name=name, size=size, results=len(results), standings=len(standings))
    for title, rows in (("results", results), ("standings", standings)):
        yield f"dataset/{title}.csv", as_csv(rows)


def index_file(leaderboard: Leaderboard, paths: Paths, systems: Mapping[str, Sequence[tuple[Board, Row]]]) -> str:
    """`api.json`: every board and every system with the paths of their JSON files, relative to the root."""
    return as_json(
        {
            "version": API_VERSION,
            "boards": [
                {
                    **board.protocol.document,
                    "systems": len(board.rows),
                    "ranked": board.ranked,
                    "page": paths.board(board.protocol.key),
                    "table": f"{stem(paths.board(board.protocol.key))}.json",
                    "attacks": f"{stem(paths.board(board.protocol.key))}-attacks.json",
                    "matrix": f"{stem(paths.matrix(board.protocol.key, 0))}.json",
                }
                for board in leaderboard.boards
            ],
            "systems": [
                {
                    "key": key,
                    "name": entries[0][1].label,
                    "page": paths.row(key),
                    "table": f"{stem(paths.row(key))}.json",
                    "every_eval_ever": paths.export(key),
                }
                for key, entries in systems.items()
            ],
        }
    )


def _met(row: Row) -> list[int]:
    return [at for at, score in enumerate(row.scores) if score is not None]


def _where(board: Board, row: Row) -> dict[str, Value]:
    of = board.protocol.conditions
    return {
        "suite": of.suite, "official": of.official, "dataset": of.dataset, "examples_sha256": of.examples_sha256,
        "examples": of.total, "norm": of.norm, "eps": board.protocol.eps_exact, "goal": of.goal, "region": of.region,
        "aware": of.aware, "system": row.label, "system_key": row.key, "model": row.system.model,
        "defenses": " ".join(row.system.defenses), "poison": " ".join(row.system.poison),
    }  # fmt: skip


def _result(board: Board, row: Row, at: int) -> dict[str, Value]:
    column, score = board.columns[at], row.scores[at]
    assert score is not None
    of = score.robust
    return {
        **_where(board, row), "attack": column.label, "attack_name": column.name, "access": column.access,
        "access_used": used(column), "robust_correct": of.count, "robust_accuracy": of.value, "robust_low": of.low,
        "robust_high": of.high, "broken": score.broken, "median_distance": score.median_distance,
        "forwards": score.forwards, "backwards": score.backwards, "seconds": score.seconds,
    }  # fmt: skip


def _standing(board: Board, row: Row) -> dict[str, Value]:
    ranks, certified = row.ranks, row.certified
    return {
        **_where(board, row), "runs": len(row.runs), "attacks": len(_met(row)),
        "rank_low": ranks.low if ranks else None, "rank_high": ranks.high if ranks else None,
        "clean_accuracy": row.clean.value, "robust_accuracy": row.robust.value, "robust_low": row.robust.low,
        "robust_high": row.robust.high, "certified_accuracy": certified.value if certified else None,
        "oblivious_accuracy": row.oblivious.value if row.oblivious else None,
        "transfer_accuracy": row.transfer.value if row.transfer else None,
    }  # fmt: skip


DATASET_CARD = """---
pretty_name: {name}, results
tags:
- adversarial-robustness
- benchmark
- leaderboard
size_categories:
- {size}
configs:
- config_name: standings
  data_files: standings.csv
  default: true
- config_name: results
  data_files: results.csv
---

# {name}: results

`standings.csv` has {standings} lines, one for each system on each board: clean and worst-case robust accuracy with
95 % Wilson intervals, and ranks as intervals. `results.csv` has {results} lines, one for each attack on each system.
Accuracies are shares of all examples, distances are in the norm of the line, in units of the [0, 1] input range. An
empty field means that nothing was measured. Lines of one board share the examples, the norm, the radius and the goal;
lines of different boards must not be ranked against each other.
"""
