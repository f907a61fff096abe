"""System, threat and attack of a record, with every setting."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from benchmark.records import naming
from benchmark.records.document import KEY_SHOWN, Document, Json
from benchmark.threat import Norm

__all__ = ["AttackInfo", "NormName", "SystemInfo", "ThreatInfo"]


OWN_CODE = ("file", "http", "torch_hub")
"""Models that run code of the user's own: a file or program, an endpoint, a repository."""


class SystemInfo(Document):
    """The evaluated system. `config` holds every setting of dataset, model, defenses, poison and training."""

    key: str
    dataset: str
    model: str
    defenses: list[str]
    poison: list[str]
    config: Json

    @property
    def name(self) -> str:
        """Display name, dataset/model+defense+..."""
        dataset, model = (naming.own_name(name, self._params(kind)) for name, kind in
                          ((self.dataset, "dataset"), (self.model, "model")))  # fmt: skip
        defenses = [naming.variant_name(name, params) for name, params in
                    zip(self.defenses, self._params_of_defenses(), strict=True)]  # fmt: skip
        return naming.system_name(dataset, model, [*defenses, *self.poison])

    @property
    def model_name(self) -> str:
        """The model's plugin, followed by what it runs of its library, such as `sklearn SVC`."""
        return naming.variant_name(self.model, self._params("model"))

    @property
    def brings_code(self) -> bool:
        """True if any part is the user's own code: a plugin of `OWN_CODE`, whatever settings the record gives it."""

        def found(value: Any) -> bool:
            if isinstance(value, dict):
                own = "params" in value and value.get("name") in OWN_CODE
                return own or any(found(one) for one in value.values())
            return isinstance(value, list) and any(found(one) for one in value)

        return found(self.config)

    def _params_of_defenses(self) -> list[Json]:
        """Settings of each defense, empty where the configuration does not match their names."""
        described = self.config.get("defenses")
        if not isinstance(described, list) or len(described) != len(self.defenses):
            return [{} for _ in self.defenses]
        found = [one.get("params") if isinstance(one, dict) else None for one in described]
        return [params if isinstance(params, dict) else {} for params in found]

    def _params(self, kind: str) -> Json:
        described = self.config.get(kind)
        params = described.get("params") if isinstance(described, dict) else None
        return params if isinstance(params, dict) else {}


def _known_norm(name: str) -> str:
    if name not in NORM_NAMES:
        raise ValueError(f"{name!r} is not a norm; expected one of {', '.join(NORM_NAMES)}")
    return name


NORM_NAMES = [norm.value for norm in Norm]
NormName = Annotated[str, AfterValidator(_known_norm), WithJsonSchema({"enum": NORM_NAMES, "type": "string"})]
"""Name of a norm."""


class ThreatInfo(Document):
    """The threat; eps in units of the [0, 1] input range. levels: number of values of a changed feature, if limited."""

    norm: NormName
    eps: float = Field(ge=0)
    eps_exact: str
    access: Literal["gradients", "scores", "labels", "transfer"]
    aware: bool
    targeted: bool
    goal: str
    region: str
    queries: int | None
    eot: int
    surrogate: str = ""
    levels: int | None = None

    @property
    def name(self) -> str:
        """Norm and radius, and every unusual setting: 'linf 1/10 oblivious least_likely square:3 500 queries'."""
        unusual = [] if self.aware else ["oblivious"]
        unusual += [] if self.goal == "untargeted" else [self.goal]
        unusual += [] if self.region == "full" else [self.region]
        unusual += [] if self.queries is None else [f"{self.queries} queries"]
        unusual += [] if self.levels is None else [f"{self.levels} levels"]
        held = self.surrogate.split(",") if self.surrogate else []
        unusual += [f"from {', '.join(key[:KEY_SHOWN] for key in held)}"] if held else []
        return " ".join([self.norm, self.eps_exact, *unusual])


class AttackInfo(Document):
    """The attack with every parameter. minimal: searches for the smallest perturbation.

    bounded: respects the threat's norm; candidates of an unbounded attack are judged by box and region only.
    """

    name: str
    params: Json
    distribution: str
    version: str
    minimal: bool
    randomized: bool
    bounded: bool = True

    @property
    def label(self) -> str:
        """Display name: the attack, followed by what it runs of its library, such as `foolbox LinfPGD`."""
        return naming.variant_name(self.name, self.params)
