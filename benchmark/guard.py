"""State that plugins of one process share and must leave as they found it: torch's modes, the environment, and more.

Around a call into a plugin, :func:`guarded` puts back what was changed and names who changed it. An exit that a plugin
asks for is an error of the plugin; only a person ends the process, see :func:`listening`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import BenchmarkError, PluginFault

__all__ = ["RENDEZVOUS", "Terminated", "drawn", "guarded", "listening"]

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "SIGFPE")
    if hasattr(signal, name)
)

HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks")
"""Hooks of torch on every module of the process."""

FRESH: dict[str, Any] = {
    "gradient mode": True,
    "inference mode": False,
    "default dtype": None,
    "default device": None,
    "deterministic algorithms": (False, False),
    "anomaly detection": False,
    "flushing of denormal numbers": False,
}
"""What torch begins with, for a plugin that is the first to import it; None for the default dtype is float32."""

RENDEZVOUS = ("MASTER_", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "RANK", "GROUP_RANK", "OMP_NUM_THREADS")
"""Variables by which processes that train together find each other: Lightning sets them."""

State = dict[str, Any]


@contextlib.contextmanager
def guarded(
    owner: str | Callable[[], str],
    *,
    generators: bool = True,
    draws: bool = True,
    spared: Sequence[str] = (),
    fault: type[BenchmarkError] = PluginFault,
) -> Iterator[None]:
    """Around a call into a plugin: afterwards the process is as it was before, or the plugin is named.

    What the first import of a library adds to the environment and to the filters of warnings is undone without blame.

    Args:
        owner: the plugin, for messages. generators: put the global random generators back.
        draws: whether it may draw from them.
        spared: beginnings of the names of variables of the environment that the plugin may change.

    Raises:
        PluginFault: or `fault`, if it left something changed, or asked for the end of the process.
    """
    before, random_before, modules = _state(), _generators() if generators else None, len(sys.modules)
    try:
        yield
    except BaseException as error:
        _restored(before, spared)
        if isinstance(error, Exception):
            raise
        _let_a_person_through(error)
        raise fault(
            f"{_named(owner)} raised {type(error).__name__}({error}), which ends the process; it must raise an error "
            "of its own and leave the end to the user: its author must mend it"
        ) from error
    finally:
        drew = random_before is not None and _set_generators(random_before)
    changed = _restored(before, spared)
    if drew and not draws:
        changed["global random generators"] = "drawn from or seeded; randomness must come from `rng`"
    if len(sys.modules) > modules:
        changed = {name: text for name, text in changed.items() if name not in ("environment", "filters of warnings")}
    if changed:
        told = "; ".join(f"{name} ({text})" for name, text in changed.items())
        raise fault(
            f"{_named(owner)} left the process changed for every plugin beside it: {told}; that was put back. It must "
            "leave the process as it finds it: its author must mend it"
        )


def _named(owner: str | Callable[[], str]) -> str:
    return owner if isinstance(owner, str) else owner()


# --- a person's interrupt ---


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


_asked: list[int] = []
"""The signals by which somebody asked for the end of the process."""


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Hear a person: SIGINT is a KeyboardInterrupt, SIGTERM is :class:`Terminated`; asked twice, the process ends.

    Handlers that somebody else has set stay, and threads beside the main one hear nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in ours}
    taken = [number for number, default in ours.items() if before[number] is default]
    for number in taken:
        signal.signal(number, _hear)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
        if taken:
            _asked.clear()


def _hear(number: int, frame: object) -> None:
    if _asked:
        os._exit(128 + number)  # asked twice: at once; whatever is under way has its files
    _asked.append(number)
    _let_a_person_through(None)


def _let_a_person_through(cause: BaseException | None) -> None:
    """Raise what a person asked for; nothing where nobody did, though somebody pretends.

    Without :func:`listening`, an interrupt cannot be told from a pretended one, and is taken for a person's.
    """
    if _asked:
        raise (KeyboardInterrupt if _asked[0] == signal.SIGINT else Terminated) from cause
    if isinstance(cause, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not _hear:
        raise cause


# --- the state of the process ---


def _state() -> State:
    """Everything that plugins share, by its name for people."""
    found: State = {
        "working folder": _folder(),
        "environment": _environment(),
        "signal handlers": [signal.getsignal(number) for number in SIGNALS],
        "filters of warnings": list(warnings.filters),
        "recursion limit": sys.getrecursionlimit(),
        "garbage collection": gc.isenabled(),
        "default time limit of sockets": socket.getdefaulttimeout(),
        "standard streams": (sys.stdout, sys.stderr, sys.stdin),
    }
    if "numpy" in sys.modules:
        found["error state of numpy"] = sys.modules["numpy"].geterr()
    if "torch" in sys.modules and hasattr(sys.modules["torch"], "set_default_device"):
        found |= _torch_state(sys.modules["torch"])
    return found


def _environment() -> dict[Any, Any]:
    """The variables as the system holds them, where they need not be decoded for every comparison."""
    return dict(getattr(os.environ, "_data", os.environ))


def _folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


def _torch_state(torch: Any) -> State:
    backends, module = torch.backends, torch.nn.modules.module
    return {
        "inference mode": torch.is_inference_mode_enabled(),
        "gradient mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "flags of cuDNN": (
            backends.cudnn.enabled,
            backends.cudnn.deterministic,
            backends.cudnn.benchmark,
            backends.cudnn.allow_tf32,
        ),
        "precision of matrix products": torch.get_float32_matmul_precision(),
        "MKL-DNN": torch._C._get_mkldnn_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "anomaly detection": torch.is_anomaly_enabled(),
        "flushing of denormal numbers": float(torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1.0) == 0.0,
        "hooks on every module": [dict(getattr(module, name)) for name in HOOKS],
    }


def _restored(before: State, spared: Sequence[str]) -> dict[str, str]:
    """Put everything back; what was changed, with a word on how."""
    now, changed = _state(), {}
    for name, value in now.items():
        if name in before:
            old = before[name]
        elif name in FRESH:
            old = sys.modules["torch"].float32 if name == "default dtype" else FRESH[name]
        else:
            continue
        if name == "environment":
            old = _with_spared(old, value, spared)
        if old == value:
            continue
        changed[name] = _difference(name, old, value)
        _WRITE[name](old)
    return changed


def _with_spared(old: Mapping[Any, Any], now: Mapping[Any, Any], spared: Sequence[str]) -> dict[Any, Any]:
    """The environment as it must be: the old one, and of the variables that may change the new ones."""
    if not spared:
        return dict(old)
    free = tuple(os.fsencode(text) for text in spared) if isinstance(next(iter(now), b""), bytes) else tuple(spared)
    kept = {name: value for name, value in old.items() if not name.startswith(free)}
    return kept | {name: value for name, value in now.items() if name.startswith(free)}


def _difference(name: str, old: Any, now: Any) -> str:
    """In few words how a value changed."""
    if name == "environment":
        return ", ".join(sorted(os.fsdecode(k) for k in {**old, **now} if old.get(k) != now.get(k)))
    if name == "signal handlers":
        return ", ".join(n.name for n, a, b in zip(SIGNALS, old, now, strict=True) if a != b)
    if name in ("filters of warnings", "hooks on every module", "standard streams"):
        return "changed"
    return f"from {old} to {now}"


def _set_environment(old: Mapping[Any, Any]) -> None:
    kept = {os.fsdecode(name): os.fsdecode(value) for name, value in old.items()}
    for name in [name for name in os.environ if name not in kept]:
        del os.environ[name]
    for name, value in kept.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _set_handlers(old: Sequence[Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in zip(SIGNALS, old, strict=True):
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


def _set_filters(old: Sequence[Any]) -> None:
    warnings.filters[:] = old  # type: ignore[index]
    mutated = getattr(warnings, "_filters_mutated", None) or getattr(warnings, "_filters_mutated_lock_held", None)
    if mutated is not None:
        mutated()


def _set_streams(old: Sequence[Any]) -> None:
    sys.stdout, sys.stderr, sys.stdin = old


def _set_folder(old: str) -> None:
    if old:
        os.chdir(old)


def _torch() -> Any:
    return sys.modules["torch"]


_held: list[Any] = []
"""Contexts that undo one which a plugin entered and never left: they must stay alive."""


def _set_inference_mode(old: bool) -> None:
    context = _torch()._C._InferenceMode(old)
    context.__enter__()
    _held.append(context)


def _set_cudnn(old: Sequence[bool]) -> None:
    cudnn = _torch().backends.cudnn
    cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = old


def _set_hooks(old: Sequence[Mapping[Any, Any]]) -> None:
    module = _torch().nn.modules.module
    for name, hooks in zip(HOOKS, old, strict=True):
        getattr(module, name).clear()
        getattr(module, name).update(hooks)


_WRITE: dict[str, Callable[[Any], object]] = {
    "working folder": _set_folder,
    "environment": _set_environment,
    "signal handlers": _set_handlers,
    "filters of warnings": _set_filters,
    "recursion limit": sys.setrecursionlimit,
    "garbage collection": lambda old: gc.enable() if old else gc.disable(),
    "default time limit of sockets": socket.setdefaulttimeout,
    "standard streams": _set_streams,
    "error state of numpy": lambda old: sys.modules["numpy"].seterr(**old),
    "inference mode": _set_inference_mode,
    "gradient mode": lambda old: _torch()._C._set_grad_enabled(old),  # noqa: PLW0108 - torch is not imported here
    "default dtype": lambda old: _torch().set_default_dtype(old),
    "default device": lambda old: _torch().set_default_device(None if old is None else old.device),
    "threads": lambda old: _torch().set_num_threads(old),
    "deterministic algorithms": lambda old: _torch().use_deterministic_algorithms(old[0], warn_only=old[1]),
    "flags of cuDNN": _set_cudnn,
    "precision of matrix products": lambda old: _torch().set_float32_matmul_precision(old),
    "MKL-DNN": lambda old: _torch()._C._set_mkldnn_enabled(old),  # noqa: PLW0108
    "autocast": lambda old: _torch().set_autocast_enabled("cpu", old),
    "anomaly detection": lambda old: _torch().autograd.set_detect_anomaly(old),  # noqa: PLW0108
    "flushing of denormal numbers": lambda old: _torch().set_flush_denormal(old),
    "hooks on every module": _set_hooks,
}
"""How each is put back. Inference mode comes before gradient mode, which it changes too."""


# --- global random generators ---


def drawn(device: Any) -> tuple[Any, ...]:
    """The states of the global random generators, to be compared: equal as long as nobody draws.

    Args:
        device: a torch device, whose generator counts too.
    """
    torch, numpy = sys.modules["torch"], sys.modules["numpy"]
    state: Any = numpy.random.get_state(legacy=True)
    states: list[Any] = [torch.get_rng_state().numpy().tobytes(), random.getstate(), state[1].tobytes(), *state[2:]]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(states)


def _generators() -> list[tuple[Callable[[Any], object], Any]]:
    """The global random generators that exist, each as a setter with its state."""
    found: list[tuple[Callable[[Any], object], Any]] = [(random.setstate, random.getstate())]
    if "numpy" in sys.modules:
        generator = sys.modules["numpy"].random
        found.append((generator.set_state, generator.get_state(legacy=True)))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        found.append((torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_initialized():
            found.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    return found


def _set_generators(states: list[tuple[Callable[[Any], object], Any]]) -> bool:
    """Put the generators back; True if any was in another state."""
    now = dict(_generators())
    changed = False
    for write, state in states:
        if not _same(now[write], state):
            changed = True
            write(state)
    return changed


def _same(one: Any, other: Any) -> bool:
    """Equality of the states of generators: tensors, arrays, and tuples and lists that hold some."""
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if hasattr(one, "numpy"):
        one, other = one.numpy(), other.numpy()
    return bool((one == other).all()) if hasattr(one, "tobytes") and hasattr(one, "all") else bool(one == other)
