"""Process state shared by plugins: read and restored."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

__all__ = ["process_state", "restored"]

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "SIGFPE")
    if hasattr(signal, name)
)

LIMITS = ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_STACK")

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
        "standard streams": [(stream, _is_closed(stream)) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "files of the standard streams": [_file(number) for number in range(3)],
        "mask of new files": _mask(),
        "timers": signal.getitimer(signal.ITIMER_REAL)[0] > 0.0 if hasattr(signal, "getitimer") else False,
        "resource limits": _limits(),
        "exit handlers": atexit._ncallbacks() - bool(getattr(weakref.finalize, "_registered_with_atexit", False)),
        "threads of Python": [thread for thread in threading.enumerate() if not _is_of_a_pool(thread)],
    }
    found["function modes of torch"] = _modes_now()
    if "numpy" in sys.modules:
        found["error state of numpy"] = sys.modules["numpy"].geterr()
    if "torch" in sys.modules and hasattr(sys.modules["torch"], "set_default_device"):
        found |= _torch_state(sys.modules["torch"])
    return found


def _environment() -> dict[Any, Any]:
    """Environment variables as raw bytes, so that comparisons need no decoding."""
    return dict(getattr(os.environ, "_data", os.environ))


def _is_closed(stream: Any) -> bool:
    return bool(getattr(stream, "closed", False))


_copies: dict[int, tuple[tuple[int, int], int]] = {}
"""Copies of the files of standard streams: which file it is, and the number of the copy."""


def _file(number: int) -> tuple[int, int] | None:
    """Identity of the file behind a standard stream, of which a copy is kept; None if it is closed."""
    try:
        stat = os.fstat(number)
    except OSError:
        return None
    found = stat.st_dev, stat.st_ino
    known, copy = _copies.get(number, (None, -1))
    if known != found:
        with contextlib.suppress(OSError):  # no more files may be open
            _copies[number] = found, os.dup(number)
            if copy >= 0:
                os.close(copy)
    return found


def _mask() -> int:
    """Permissions that new files lack, which can only be read by setting them."""
    found = os.umask(0o077)
    os.umask(found)
    return found


def _limits() -> dict[str, tuple[int, int]]:
    """Limits of the process, soft and hard, by name."""
    if resource is None:
        return {}
    return {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS if hasattr(resource, name)}


def _is_of_a_pool(thread: threading.Thread) -> bool:
    """True for threads that libraries keep for later, and that have nothing to do in between."""
    target = getattr(thread, "_target", None) or type(thread)
    return str(getattr(target, "__module__", "")).partition(".")[0] in ("concurrent", "multiprocessing", "tqdm")


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
    changed = _without_modes(before)
    now = process_state()
    for name, value in now.items():
        if name in before:
            old = before[name]
        elif name in FRESH:
            old = sys.modules["torch"].float32 if name == "default dtype" else FRESH[name]
        else:
            continue
        if name == "environment":
            old = _with_spared(old, value, spared)
        if old == value or (name == "threads of Python" and not _left(old, value)):
            continue
        changed[name] = _difference(name, old, value)
        _WRITE[name](old)
    return changed


def _modes_now() -> int:
    """Number of torch's function modes that are entered, without that of the default device."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "set_default_device"):
        return 0
    entered: int = torch._C._len_torch_function_stack()
    return entered - (getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None) is not None)


def _without_modes(before: State) -> dict[str, str]:
    """Leave torch's function modes that were not left, before any call of torch, which they would change."""
    entered, kept = _modes_now(), before.get("function modes of torch", 0)
    for _ in range(entered - kept):
        _torch()._C._pop_torch_function_stack()
    return {"function modes of torch": f"from {kept} to {entered}"} if entered > kept else {}


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
    if name == "threads of Python":
        return f"still running: {', '.join(thread.name for thread in _left(old, now))}"
    if name == "resource limits":
        return ", ".join(limit for limit in old if old[limit] != now.get(limit))
    if name in ("filters of warnings", "hooks on every module", "standard streams", "files of the standard streams"):
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


def _left(old: Sequence[threading.Thread], now: Sequence[threading.Thread]) -> list[threading.Thread]:
    """Threads that were started and did not end; they get a moment for it."""
    started = [thread for thread in now if thread not in old]
    for thread in started:
        thread.join(0.1)
    return [thread for thread in started if thread.is_alive()]


def _set_streams(old: Sequence[tuple[Any, bool]]) -> None:
    for number, (name, (stream, was_closed)) in enumerate(zip(("stdin", "stdout", "stderr"), old, strict=True)):
        if was_closed or not _is_closed(stream):
            setattr(sys, name, stream)
        elif _is_closed(getattr(sys, name) or stream):
            with contextlib.suppress(OSError):
                mode = "r" if name == "stdin" else "w"
                setattr(sys, name, open(number, mode, buffering=1, closefd=False, encoding="utf-8"))  # noqa: SIM115


def _set_files(old: Sequence[tuple[int, int] | None]) -> None:
    for number, file in enumerate(old):
        if file is not None and _file(number) != file and number in _copies and _copies[number][0] == file:
            os.dup2(_copies[number][1], number)


def _set_limits(old: Mapping[str, tuple[int, int]]) -> None:
    for name, limit in old.items():
        with contextlib.suppress(ValueError, OSError):  # a hard limit that was lowered stays
            resource.setrlimit(getattr(resource, name), limit)


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
    "files of the standard streams": _set_files,
    "mask of new files": os.umask,
    "timers": lambda old: None if old else signal.setitimer(signal.ITIMER_REAL, 0.0),
    "resource limits": _set_limits,
    "exit handlers": lambda old: None,
    "function modes of torch": lambda old: None,
    "threads of Python": lambda old: None,
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
"""Setters by name; exit handlers and threads cannot be undone. Inference mode comes before gradient mode, which it
changes too."""
