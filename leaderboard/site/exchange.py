"""Export in the format of Every Eval Ever (EvalEval coalition), JSON Schema version 0.3.0, one document per system.

That format has no threat models: norm, radius, goal, region and the attacker's knowledge are among the details of the
metric. Scores are shares, 1 is best, with the Wilson interval; the number of examples is `num_samples`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from benchmark.records.record import Record

from ..board import Board, Protocol, Rate, Row
from ..words.wording import radius
from .feed import stamp
from .paths import DEVELOPER

__all__ = ["SCHEMA", "every_eval_ever"]

SCHEMA = "0.3.0"
Json = dict[str, object]


def every_eval_ever(entries: Sequence[tuple[Board, Row]], records: Mapping[str, Record], name: str) -> Json:
    """Document of one system: clean accuracy and worst-case robust accuracy on each of its boards."""
    row = entries[0][1]
    own = [records[key] for _, entry in entries for key in entry.keys if key in records]
    when = _unix(stamp(own))
    versions = sorted({str(record.provenance.get("harness", "unknown")) for record in own}) or ["unknown"]
    model = f"{DEVELOPER}/{row.key}"
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{row.system.dataset}/{model}/{when}",
        "evaluation_timestamp": when,
        "retrieved_timestamp": when,
        "source_metadata": {
            "source_name": name,
            "source_type": "evaluation_run",
            "source_organization_name": name,
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "adversarial-benchmark", "version": versions[-1]},
        "model_info": {
            "name": row.label,
            "id": model,
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                "model": row.system.model,
                "defenses": ", ".join(row.system.defenses),
                "poison": ", ".join(row.system.poison),
                "weights_sha256": ", ".join(sorted({run.weights_sha256 for _, e in entries for run in e.runs})),
            },
        },
        "evaluation_results": [result for board, entry in entries for result in _results(board, entry)],
    }


def _results(board: Board, row: Row) -> list[Json]:
    of = board.protocol
    robust = f"Share of examples classified correctly under each of {sum(s is not None for s in row.scores)} attacks."
    return [
        _result(of, "clean accuracy", "accuracy", "Share of examples classified correctly without an attack.",
                row.clean, {}),
        _result(
            of, f"robust accuracy at {radius(of)}", "adversarial_benchmark.robust_accuracy", robust, row.robust,
            {}
            if row.ranks is None
            else {"rank_low": str(row.ranks.low), "rank_high": str(row.ranks.high), "systems": str(board.ranked)},
        ),
    ]  # fmt: skip


def _result(of: Protocol, name: str, metric: str, said: str, rate: Rate, details: dict[str, str]) -> Json:
    threat = {
        "norm": of.conditions.norm,
        "eps": of.eps_exact,
        "goal": of.conditions.goal,
        "region": of.conditions.region,
        **({} if of.conditions.levels is None else {"levels": str(of.conditions.levels)}),
        "attacker_knows_the_defense": "yes" if of.conditions.aware else "no",
    }
    return {
        "evaluation_result_id": f"{of.key}.{metric}",
        "evaluation_name": f"{of.conditions.suite or 'no suite'}: {name}",
        "source_data": {
            "dataset_name": of.conditions.dataset,
            "source_type": "other",
            "additional_details": {
                "revision": of.conditions.dataset_revision,
                "examples_sha256": of.conditions.examples_sha256,
            },
        },
        "metric_config": {
            "evaluation_description": said,
            "metric_id": metric,
            "metric_name": name,
            "metric_kind": "accuracy",
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
            "additional_details": {} if metric == "accuracy" else threat,
        },
        "score_details": {
            "score": rate.value,
            "details": {"count": f"{rate.count:g}", **details},
            "uncertainty": {
                "confidence_interval": {
                    "lower": rate.low,
                    "upper": rate.high,
                    "confidence_level": 0.95,
                    "method": "Wilson score",
                },
                "num_samples": rate.total,
            },
        },
    }


def _unix(date: str) -> str:
    return str(int(datetime.datetime.fromisoformat(date).timestamp()))
