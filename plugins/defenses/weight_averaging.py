"""Weight averaging: EMA, Polyak & Juditsky, 1992; SWA, Izmailov et al., UAI 2018, arXiv:1803.05407.

For adversarial training: Gowal et al., 2020, arXiv:2010.03593, section 4.2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from benchmark.api import Averaging, ConfigError, Defense, hookimpl


class Rule(Enum):
    """Type of average.

    ema: exponential, w <- decay w + (1 - decay) weights after each step; normalisation statistics are averaged
    likewise.
    swa: the arithmetic mean of the weights at the ends of epochs; normalisation statistics are recomputed for the
    averaged weights on the clean training inputs.
    """

    ema = "ema"
    swa = "swa"


@dataclass(frozen=True)
class WeightAveraging(Defense):
    """Deploy, and select epochs by, an average of the weights instead of the last ones.

    rule: see :class:`Rule`. decay: of `ema`; it starts from the first weights averaged, without bias to the initial
    ones.
    begin: share of the epochs before averaging starts.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"decay": 0.0}

    rule: Rule = Rule.ema
    decay: float = 0.995
    begin: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0 or not 0.0 <= self.begin < 1.0:
            raise ConfigError(
                f"weight_averaging has decay {self.decay} and begin {self.begin}; expected a decay and a share of the "
                "epochs, both in [0, 1)"
            )

    def averaging(self) -> Averaging | None:
        """The average kept during training; none at a decay of 0, where it equals the last weights."""
        if self.rule is Rule.swa:
            return Averaging(None, self.begin, each_epoch=True, restate=True)
        return Averaging(self.decay, self.begin) if self.decay else None


@hookimpl
def benchmark_component() -> type[WeightAveraging]:
    """Register the plugin."""
    return WeightAveraging
