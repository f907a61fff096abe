"""A classifier behind an HTTP endpoint, asked as its users ask it: inputs go out, scores or labels come back.

An endpoint has no gradients, costs money, refuses who asks too fast, and may change under the attack. So inputs that
were asked are not asked again, requests are spaced and repeated, their number is limited, and another model is noticed.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.api import Access, ConfigError, DataError, DataSpec, Model, hookimpl

from ._http import Client, Pace
from ._portable import logarithms, two_columns

PROBES = 2
"""Inputs whose answers are stored with the system, by which a changed endpoint is noticed."""

TOLERANCE = 1e-3
"""Difference of two scores that counts as none: servers add up in another order from day to day."""


class Reply(Enum):
    """Answer of the endpoint per input: scores before the softmax, probabilities, or a label."""

    logits = "logits"
    probabilities = "probabilities"
    labels = "labels"


@dataclass(frozen=True)
class HTTP(Model):
    """A model of which only the answers are known.

    Each request is a POST of JSON, {"inputs": [...]}, a list of up to `batch` inputs of the dataset's shape with values
    in [0, 1]; the reply is {"outputs": [...]} with one row of scores, or one label, per input. A bearer token is taken
    from the environment, from BENCHMARK_TOKEN_HOST with the host's name in capitals (BENCHMARK_TOKEN_API_EXAMPLE_ORG),
    so that it goes to that host alone and is in no record, key or message.

    url: https, or http to this machine. revision: what the owner calls the deployed version; a part of the key, as the
    content of an endpoint is not known. answers: by which the attacker's access is limited.
    batch: inputs in a request. rate: requests per second at most, 0 for no limit. retries: of a request that timed out
    or was refused for now (408, 429, 5xx), each after twice the wait, or what Retry-After says. timeout: seconds.
    budget: different inputs that one process may ask at most; what would exceed it is an error, and the cell fails.
    """

    reviewed: ClassVar[bool] = False

    url: str = ""
    revision: str = ""
    answers: Reply = Reply.logits
    batch: int = 64
    rate: float = 0.0
    retries: int = 4
    timeout: float = 30.0
    budget: int = 1_000_000

    def __post_init__(self) -> None:
        if self.url:
            _check_url(urlsplit(self.url))
        if self.batch < 1 or self.budget < 1 or self.retries < 0 or self.rate < 0 or self.timeout <= 0:
            raise ConfigError(
                f"model.batch {self.batch}, budget {self.budget}, retries {self.retries}, rate {self.rate} and timeout "
                f"{self.timeout}: expected at least 1, 1, 0, 0 and more than 0"
            )
        access = Access.labels if self.answers is Reply.labels else Access.scores
        object.__setattr__(self, "access", access)

    def build(self, spec: DataSpec) -> nn.Module:
        """(B, *S) to (B, K). Nothing is asked before the first input.

        Raises:
            ConfigError: if there is no endpoint, or its version has no name.
        """
        if not self.url or not self.revision:
            raise ConfigError(
                "model=http needs model.url, the endpoint, and model.revision, the name of the deployed version: a "
                "result must say of what it is"
            )
        pace = Pace(self.rate, self.retries, self.timeout)
        return Endpoint(Client(self.url, pace, self.batch, self.budget), self.answers, spec)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The answers to a few inputs, by which the endpoint is known again.

        Raises:
            DataError: if it cannot be reached, or does not answer as declared.
        """
        module = self.build(spec)
        assert isinstance(module, Endpoint)
        module.remember()
        return dict(module.state_dict())

    def unreviewed(self) -> str:
        """The endpoint and its version."""
        return f"an endpoint, {self.url}, revision {self.revision}"


class Endpoint(nn.Module):
    """Answers of an endpoint, each asked once.

    known: (PROBES, K) float32 scores of grey and of slanted inputs when it was first asked; NaN before.
    """

    known: Tensor

    def __init__(self, client: Client, answers: Reply, spec: DataSpec) -> None:
        super().__init__()
        self.client, self.answers, self.spec, self.compared = client, answers, spec, False
        self.register_buffer("known", torch.full((PROBES, spec.classes), torch.nan))

    def remember(self) -> None:
        """Ask the probes, and keep what comes back."""
        self.known.copy_(self._scores(self._probes()))
        self.compared = True

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) float32 scores for `x` (B, *S), without a gradient.

        Raises:
            DataError: if the endpoint is another one than was asked first, does not answer, or is asked too often.
        """
        if not self.compared and not bool(self.known.isnan().any()):
            now = self._scores(self._probes()).to(self.known.device)
            if not torch.allclose(now, self.known, rtol=TOLERANCE, atol=TOLERANCE):
                raise DataError(
                    f"{self.client.host} answers otherwise than when this system was first asked: another model is "
                    "deployed there; give model.revision its name, which makes it another system"
                )
            self.compared = True
        return self._scores(x).to(x.device)

    def _probes(self) -> Tensor:
        size = int(np.prod(self.spec.shape))
        return torch.stack([torch.full((size,), 0.5), torch.linspace(0, 1, size)]).reshape(PROBES, *self.spec.shape)

    def _scores(self, x: Tensor) -> Tensor:
        said = self.client.ask(x.detach().float().cpu().numpy())
        count, classes = len(x), self.spec.classes
        try:
            told = np.asarray(said, dtype=np.float64).reshape(count, -1)
        except (TypeError, ValueError):
            raise DataError(f"{self.client.host} answers with rows of no numbers, or of different lengths") from None
        if self.answers is Reply.labels:
            wrong = told.shape[1] != 1 or bool(((told < 0) | (told >= classes) | (told % 1 != 0)).any())
            if wrong:
                raise DataError(f"{self.client.host} answers with no labels below {classes}; see model.answers")
            return torch.from_numpy(np.eye(classes, dtype=np.float32)[told[:, 0].astype(np.int64)])
        if self.answers is Reply.probabilities and (not np.isfinite(told).all() or told.min() < 0 or told.max() > 1):
            raise DataError(f"{self.client.host} answers with values outside [0, 1]; see model.answers")
        if self.answers is Reply.probabilities and told.shape[1] == 1:  # of the second of two classes
            told = np.concatenate([1 - told, told], 1)
        scores = logarithms(told) if self.answers is Reply.probabilities else told
        return two_columns(torch.from_numpy(scores.astype(np.float32)), classes)


def _check_url(parts: SplitResult) -> None:
    """Refuse credentials in the address, and sending them, or inputs, in the clear (ConfigError)."""
    if parts.username or parts.password or re.search(r"(?i)(key|token|secret|password|signature)=", parts.query):
        raise ConfigError(
            "model.url holds a credential, which would end up in records; leave it out and put it into the "
            "environment, as BENCHMARK_TOKEN_HOST"
        )
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
        raise ConfigError(f"model.url begins with {parts.scheme}://{host}; expected https, or http to this machine")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return HTTP
