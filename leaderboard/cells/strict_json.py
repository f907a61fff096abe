"""JSON from strangers: bounded, finite, without duplicate keys."""

from __future__ import annotations

import json
import math
from typing import Any

from benchmark.errors import RecordError

__all__ = ["DEEPEST", "strict_json"]

DEEPEST = 32
DIGITS = 18


def strict_json(data: bytes, name: str) -> Any:
    """Parse the document in `data`; errors call it `name`.

    Raises:
        RecordError: if it is not UTF-8 JSON, is nested too deeply, repeats a key, or has a number that is not finite or
            has too many digits.
    """

    def constant(text: str) -> Any:
        raise RecordError(f"{name} contains {text}; expected finite numbers")

    def whole(text: str) -> int:
        if len(text.lstrip("-")) > DIGITS:
            raise RecordError(f"{name} contains a whole number of {len(text)} digits; expected at most {DIGITS}")
        return int(text)

    def fraction(text: str) -> float:
        if len(text) > 40 or not math.isfinite(float(text)):
            raise RecordError(f"{name} contains the number {text[:40]}; expected one in the range of a double")
        return float(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise RecordError(f"{name} repeats a key in one object; expected each key once")
        return found

    try:
        document = json.loads(
            data.decode("utf-8"),
            parse_constant=constant,
            parse_int=whole,
            parse_float=fraction,
            object_pairs_hook=unique,
        )
    except RecursionError:
        raise RecordError(f"{name} is nested too deeply; expected at most {DEEPEST} levels") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{name} is not UTF-8 text at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise RecordError(f"{name} is not JSON: {error.msg} at line {error.lineno}") from error
    _bounded(document, name)
    return document


def _bounded(document: Any, name: str) -> None:
    level = [document]
    for _ in range(DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise RecordError(f"{name} is nested too deeply; expected at most {DEEPEST} levels")
