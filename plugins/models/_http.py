"""Requests to an HTTP endpoint: batched, rate-limited, retried on temporary failures, and counted."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmark.api import DataError

FOR_NOW = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes after which the same request may succeed."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the first retry, and maximum before any."""

LARGEST = 64 * 2**20
"""Maximum number of bytes read of a reply."""


@dataclass(frozen=True)
class Pace:
    """Pace of requests.

    rate: maximum requests per second, 0 for no limit. retries: per request. timeout: seconds per request.
    """

    rate: float
    retries: int
    timeout: float


class _Stay(urllib.request.HTTPRedirectHandler):
    """Refuse redirections: the token is for one host only."""

    def redirect_request(self, *args: Any) -> None:
        return None


class Client:
    """Client of one endpoint. host: its name, for messages. asked: number of different inputs sent."""

    def __init__(self, url: str, pace: Pace, batch: int, budget: int) -> None:
        self.url, self.pace, self.batch, self.budget = url, pace, batch, budget
        self.host, self.asked = urlsplit(url).netloc, 0
        self._answers: dict[bytes, Any] = {}
        self._next = 0.0

    def ask(self, x: np.ndarray) -> list[Any]:
        """Reply to each of the inputs (B, *S) float32; inputs already sent are answered from memory.

        Raises:
            DataError: if the budget is exceeded, or the endpoint does not answer as expected.
        """
        keys = [row.tobytes() for row in x]
        new = {key: row for key, row in zip(keys, x, strict=True) if key not in self._answers}
        if self.asked + len(new) > self.budget:
            raise DataError(
                f"{self.host} has answered {self.asked} inputs and {len(new)} more are requested, but model.budget is "
                f"{self.budget}; increase it, or give the attack fewer queries"
            )
        waiting = list(new.items())
        for start in range(0, len(waiting), self.batch):
            part = waiting[start : start + self.batch]
            replies = self._post([row.tolist() for _, row in part])
            self._answers.update(zip((key for key, _ in part), replies, strict=True))
            self.asked += len(part)
        return [self._answers[key] for key in keys]

    def _post(self, inputs: list[Any]) -> list[Any]:
        body, wait = json.dumps({"inputs": inputs}).encode(), FIRST_WAIT
        for left in range(self.pace.retries, -1, -1):
            self._wait_for_turn()
            try:
                return self._outputs(self._sent(body), len(inputs))
            except urllib.error.HTTPError as error:
                problem, asked_for = f"{error.code}", _seconds(error.headers.get("Retry-After"))
                error.close()
                if error.code not in FOR_NOW:
                    hint = self._hint(error.code)
                    raise DataError(f"{self.host} refused the request with status {problem}{hint}") from None
            except (OSError, http.client.HTTPException) as error:  # not reached, or broken off
                problem, asked_for = type(getattr(error, "reason", error)).__name__, None
            if left:
                time.sleep(min(wait if asked_for is None else asked_for, LONGEST_WAIT))
                wait *= 2
        raise DataError(
            f"{self.host} did not answer ({problem}) after {self.pace.retries + 1} attempts; run the same command "
            "again later to resume"
        )

    def _sent(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        token = os.environ.get(token_name(self.url))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url, body, headers, method="POST")
        with urllib.request.build_opener(_Stay).open(request, timeout=self.pace.timeout) as reply:
            read: bytes = reply.read(LARGEST)
            return read

    def _outputs(self, raw: bytes, count: int) -> list[Any]:
        try:
            told = json.loads(raw)
        except ValueError:
            told = None
        outputs = told.get("outputs") if isinstance(told, dict) else None
        if not isinstance(outputs, list) or len(outputs) != count:
            raise DataError(f'{self.host} did not answer {count} inputs with {{"outputs": [...]}} of that length')
        return outputs

    def _wait_for_turn(self) -> None:
        if self.pace.rate > 0:
            now = time.monotonic()
            time.sleep(max(0.0, self._next - now))
            self._next = max(now, self._next) + 1 / self.pace.rate

    def _hint(self, code: int) -> str:
        return f"; its token is taken from {token_name(self.url)}" if code in (401, 403) else ""

    def __deepcopy__(self, memo: dict[int, Any]) -> Client:
        return self  # copies of a system share what was asked, and the budget


def token_name(url: str) -> str:
    """Environment variable with the token of a host, such as BENCHMARK_TOKEN_API_EXAMPLE_ORG."""
    return "BENCHMARK_TOKEN_" + re.sub(r"[^A-Z0-9]", "_", (urlsplit(url).hostname or "").upper())


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; None for a date."""
    return float(text) if text is not None and text.strip().isdigit() else None
