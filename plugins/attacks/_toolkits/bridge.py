"""The part of a bridge that is the same for every toolkit: methods by name, their settings, one example at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Access,
    Attack,
    AttackFault,
    DataSpec,
    MissingPackage,
    Norm,
    Refused,
    SampleRandom,
    Supports,
    Target,
    Threat,
)
from benchmark.errors import BenchmarkError

from ..._toolkit import check_args, check_method, installed, installed_version, parameters_of
from .facade import Facade, Spent, of_its_own

EVERY = tuple(Norm)


@dataclass(frozen=True)
class Method:
    """The abilities of one attack of a toolkit: those of `Supports`, and whether it can leave a label at all."""

    norms: tuple[Norm, ...]
    access: Access = Access.gradients
    targeted: bool = True
    minimal: bool = False
    untargeted: bool = True

    @property
    def supports(self) -> Supports:
        """As a plugin declares it; all are taken to draw random numbers."""
        return Supports(frozenset(self.norms), self.access, self.targeted, self.minimal, randomized=True)


def methods_of(names: str, *norms: Norm, **abilities: Any) -> dict[str, Method]:
    """Names, with blanks between them, of methods with the same abilities."""
    return dict.fromkeys(names.split(), Method(norms, **abilities))


@dataclass(frozen=True)
class Bridge(Attack):
    """An attack of a toolkit, by its name there, with its own parameters.

    Each example is attacked by itself, with the global generators seeded by the cell's seed and the example's id, so
    that a candidate depends on its own example alone. The toolkit asks the system through the target: its passes are
    counted, its access and budget are the threat's, and whether it succeeded is decided by the core. Where the budget
    is spent first, the nearest success among the inputs that it asked about is handed in.

    method: the name of the attack in the toolkit. args: its parameters, by their names there, checked against its
    signature; what the threat says (eps, norm, bounds, labels) is passed on and cannot be given.
    project: whether what the toolkit returns is projected into the threat's ball. With false it is judged as it is, so
    that the core counts what left the ball or the box.
    version: of the toolkit; filled in, and part of every key and record. Given, another installed version is refused.
    """

    supports: ClassVar[Supports] = Supports(targeted=True, randomized=True)

    package: ClassVar[str]
    """The toolkit's name as it is imported."""
    distribution: ClassVar[str]
    """Its name as it is installed."""
    install: ClassVar[str]
    """The line that installs it."""
    known: ClassVar[Mapping[str, Method]]
    """Methods by name."""
    owned: ClassVar[frozenset[str]]
    """Parameters that the bridge sets."""

    needs: ClassVar[Mapping[str, str]] = {}
    """Packages that single methods need and the toolkit does not install."""

    method: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    project: bool = True
    version: str = ""

    def __post_init__(self) -> None:
        plugin = f"attack.{type(self).__module__.rpartition('.')[2]}"
        found = installed_version(plugin, "attack", self.package, self.distribution, self.install, self.version)
        object.__setattr__(self, "version", found)
        check_method(plugin, "attack", self.package, self.method, self.offered())
        if not installed(self.needs.get(self.method, self.package)):
            needed = self.needs[self.method]
            raise MissingPackage(
                f"{self.package}'s {self.method} needs {needed}, which is not installed: pip install {needed}"
            )
        words, source = f"{self.package}'s {self.method}", "from the threat and the data; change the threat instead"
        check_args("attack", words, self.args, self.parameters(), self.owned, source)
        object.__setattr__(self, "supports", self.known[self.method].supports)

    def __hash__(self) -> int:
        return hash((type(self), self.method, repr(self.args), self.project, self.version))

    @classmethod
    def offered(cls) -> dict[str, Method]:
        """The known methods that the installed toolkit has."""
        return {name: method for name, method in cls.known.items() if cls.has(name)}

    @classmethod
    def offers(cls) -> tuple[str, ...]:
        """The methods, a line each, or how to install the toolkit."""
        if not installed(cls.package):
            return (f"{cls.distribution} is not installed: {cls.install}",)
        return tuple(f"{name}  {_words(method)}" for name, method in cls.offered().items())

    def parameters(self) -> tuple[str, ...]:
        """The parameters of the method that can be given."""
        return parameters_of(self.signature_of(self.method), self.owned)

    @classmethod
    @abstractmethod
    def has(cls, name: str) -> bool:
        """Tell whether the installed toolkit has a method of that name."""

    @classmethod
    @abstractmethod
    def signature_of(cls, name: str) -> Callable[..., Any]:
        """The class or function whose parameters are those of the method."""

    @abstractmethod
    def run(self, facade: Facade, x: Tensor, y: Tensor, *, threat: Threat, seed: int) -> Tensor:
        """Run the toolkit's attack on one example.

        Args:
            facade: the system as a module. x: (1, *S) float32 in [0, 1], whatever the precision of the run.
            y: (1,) the label to leave or, under a targeted threat, to reach.
            seed: below 2**31, for a method that seeds itself.

        Returns:
            (1, *S), on any device and in any dtype.
        """

    def gave_up(self, error: Exception) -> bool:
        """Tell whether an exception of the toolkit means that it found nothing, as its documentation says."""
        return False

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse an untargeted threat to a method that only reaches labels."""
        if not threat.targeted and not self.known[self.method].untargeted:
            raise Refused(f"{self.package}'s {self.method} reaches given labels, and threat.goal is untargeted")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Candidates that the toolkit returns for each example, and the toolkit's own number of passes."""
        if threat.radius == 0 and not self.supports.minimal:
            return x.clone()  # for which toolkits divide by zero, or refuse it
        ball = threat.around(x, rng)
        seeds = rng.integers(2**31 - 1, 1, stream=f"{self.package}/seed").flatten().tolist()
        found = []
        for row, seed in enumerate(seeds):
            at = torch.tensor([row], device=x.device)
            facade = Facade(
                target.rows(at), ball.rows(at), y[at], targeted=threat.targeted, access=self.supports.access
            )
            found.append(self._candidate(facade, x[at], y[at], threat=threat, seed=seed))
        x_adv = torch.cat(found)
        if ball.mask is not None:
            x_adv = torch.where(ball.mask, x_adv, x)
        if not self.project:
            return x_adv
        x_adv = torch.nan_to_num(x_adv, nan=0.0)
        return x_adv.clamp(0.0, 1.0) if self.supports.minimal else ball.project(x_adv)

    def _candidate(self, facade: Facade, x: Tensor, y: Tensor, *, threat: Threat, seed: int) -> Tensor:
        """(1, *S) in the dtype of `x`, or what was found until the toolkit was stopped.

        Raises:
            AttackFault: naming toolkit and method, with the toolkit's own words, if it fails.
        """
        try:
            with of_its_own(seed):
                found = self.run(facade, x.float().clone(), y.clone(), threat=threat, seed=seed)
        except Spent:
            return facade.found
        except BenchmarkError:
            raise
        except Exception as error:
            if isinstance(error.__cause__ or error.__context__, Spent):  # a toolkit that wraps what it catches
                return facade.found
            if self.gave_up(error):
                return facade.found
            raise AttackFault(
                f"{self.package}'s {self.method} failed on an example of shape {tuple(x.shape[1:])}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return found.detach().to(x.device, x.dtype).reshape(x.shape)


def _words(method: Method) -> str:
    flags = [flag for flag in ("targeted", "minimal") if getattr(method, flag)]
    return ", ".join([" ".join(norm.value for norm in method.norms), method.access.value, *flags])
