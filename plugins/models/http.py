"""A classifier behind an HTTP endpoint that returns scores or labels of inputs.

An endpoint has no gradients, costs money, limits the request rate, and may change during an attack. So inputs are sent
once, requests are spaced and retried, their number is limited, and a changed model is detected.
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
"""Inputs whose answers are stored with the system, to detect a changed endpoint."""

TOLERANCE = 1e-3
"""Tolerated difference of two scores: the order of a server's floating-point sums may vary."""


class Reply(Enum):
    """Output of the endpoint per input: scores before the softmax, probabilities, or a label."""

    logits = "logits"
    probabilities = "probabilities"
    labels = "labels"


@dataclass(frozen=True)
class HTTP(Model):
    """A black-box model behind an HTTP endpoint.

    Each request is a POST of JSON, {"inputs": [...]}, a list of up to `batch` inputs of the dataset's shape with values
    in [0, 1]; the reply is {"outputs": [...]} with one row of scores, or one label, per input. A bearer token is taken
    from the environment variable BENCHMARK_TOKEN_HOST with the host's name in capitals
    (BENCHMARK_TOKEN_API_EXAMPLE_ORG), so that it is sent to that host only and is in no record, key or message.

    url: https, or http to this machine. revision: the owner's name of the deployed version; part of the key, as the
    content of an endpoint is unknown. answers: type of the output, which limits the attacker's access.
    batch: inputs per request. rate: maximum requests per second, 0 for no limit. retries: per request that timed out or
    was temporarily refused (408, 429, 5xx), each after twice the wait, or after Retry-After. timeout: seconds.
    budget: maximum number of different inputs sent per process; beyond it, the cell fails with an error.
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
        """Network from (B, *S) to (B, K). No request is sent before the first input.

        Raises:
            ConfigError: if the endpoint or the name of its version is missing.
        """
        if not self.url or not self.revision:
            raise ConfigError(
                "model=http needs model.url, the endpoint, and model.revision, the name of the deployed version, to "
                "which a result belongs"
            )
        pace = Pace(self.rate, self.retries, self.timeout)
        return Endpoint(Client(self.url, pace, self.batch, self.budget), self.answers, spec)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """Answers to a few inputs, by which the endpoint is recognised.

        Raises:
            DataError: if it cannot be reached, or does not answer as declared.
        """
        module = self.build(spec)
        assert isinstance(module, Endpoint)
        module.remember()
        return dict(module.state_dict())

    def unreviewed(self) -> str:
        """The endpoint and its version, for records."""
        return f"an endpoint, {self.url}, revision {self.revision}"


class Endpoint(nn.Module):
    """Answers of an endpoint, one request per input.

    known: (PROBES, K) float32, first scores of grey and of gradient images; NaN before.
    """

    known: Tensor

    def __init__(self, client: Client, answers: Reply, spec: DataSpec) -> None:
        super().__init__()
        self.client, self.answers, self.spec, self.compared = client, answers, spec, False
        self.register_buffer("known", torch.full((PROBES, spec.classes), torch.nan))

    def remember(self) -> None:
        """Send the probes, and store the answers."""
        self.known.copy_(self._scores(self._probes()))
        self.compared = True

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, K) float32 for `x` (B, *S), without gradient.

        Raises:
            DataError: if the endpoint has changed, does not answer, or the budget is exceeded.
        """
        if not self.compared and not bool(self.known.isnan().any()):
            now = self._scores(self._probes()).to(self.known.device)
            if not torch.allclose(now, self.known, rtol=TOLERANCE, atol=TOLERANCE):
                raise DataError(
                    f"the answers of {self.client.host} differ from those stored with this system: another model is "
                    "deployed there; set model.revision to its name, which makes it another system"
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
            raise DataError(
                f"{self.client.host} answered with rows that are not numbers, or have different lengths"
            ) from None
        if self.answers is Reply.labels:
            wrong = told.shape[1] != 1 or bool(((told < 0) | (told >= classes) | (told % 1 != 0)).any())
            if wrong:
                raise DataError(
                    f"{self.client.host} answered with values other than labels below {classes}; see model.answers"
                )
            return torch.from_numpy(np.eye(classes, dtype=np.float32)[told[:, 0].astype(np.int64)])
        if self.answers is Reply.probabilities and (not np.isfinite(told).all() or told.min() < 0 or told.max() > 1):
            raise DataError(f"{self.client.host} answered with values outside [0, 1]; see model.answers")
        if self.answers is Reply.probabilities and told.shape[1] == 1:  # of the second of two classes
            told = np.concatenate([1 - told, told], 1)
        scores = logarithms(told) if self.answers is Reply.probabilities else told
        return two_columns(torch.from_numpy(scores.astype(np.float32)), classes)


def _check_url(parts: SplitResult) -> None:
    """Refuse credentials in the address, and sending them or inputs unencrypted.

    Raises:
        ConfigError: naming `model.url`.
    """
    if parts.username or parts.password or re.search(r"(?i)(key|token|secret|password|signature)=", parts.query):
        raise ConfigError(
            "model.url holds a credential, which would be written to records; remove it and set it in the "
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
