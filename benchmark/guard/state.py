"""Process state shared by plugins: read and restored."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["process_state", "restored"]

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
"""Initial state of torch, for a plugin that is the first to import it; None for the default dtype is float32."""

State = dict[str, Any]


def process_state() -> State:
    """Everything that plugins share, by display name."""
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
    """Environment variables as raw bytes, so that comparisons need no decoding."""
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


def restored(before: State, spared: Sequence[str]) -> dict[str, str]:
    """Restore everything; returns a short description of each change by name."""
    now, changed = process_state(), {}
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
    """Environment to restore: the old one, with the new values of the variables that may change."""
    if not spared:
        return dict(old)
    free = tuple(os.fsencode(text) for text in spared) if isinstance(next(iter(now), b""), bytes) else tuple(spared)
    kept = {name: value for name, value in old.items() if not name.startswith(free)}
    return kept | {name: value for name, value in now.items() if name.startswith(free)}


def _difference(name: str, old: Any, now: Any) -> str:
    """Description of a change of value, in a few words."""
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
"""Contexts entered to undo those that a plugin never left; they must stay alive."""


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
"""Setters by name. Inference mode comes before gradient mode, which it changes too."""
