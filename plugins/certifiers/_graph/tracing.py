"""Recording of a module's operations, independent of its classes.

torch.fx traces one pass at the level of torch's own operators, so that a custom forward, a hook, a reused layer, a
parametrised weight or an input transformation is in the record like everything else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from benchmark.api import Refused

__all__ = ["ROWS", "trace"]

ROWS = 7
"""Number of rows of the recorded pass, unusual so that an operation that mixes rows shows in its shape."""


def trace(module: nn.Module, shape: tuple[int, ...], owner: str) -> GraphModule:
    """Operators of one pass in evaluation mode; parameters are the module's own, not copies.

    Args:
        module: from (B, *S) in [0, 1] to (B, K). shape: S. owner: the certifier, for messages.

    Raises:
        Refused: if the pass depends on input values in Python, fails, or does not return (B, K).
    """
    like = next(iter([*module.parameters(), *module.buffers()]), torch.empty(0))
    dtype = torch.float64 if like.dtype is torch.float64 else torch.float32
    x = torch.full((ROWS, *shape), 0.5, device=like.device, dtype=dtype)
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            out = module(x)
            if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != ROWS:
                kind = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                raise Refused(f"{owner} takes a system with scores (B, K), but this one gives {kind} for {ROWS} rows")
            recorded = _recorded(module, x)
    except Refused:
        raise
    except Exception as error:
        raise Refused(
            f"{owner} cannot trace this system, whose pass is not a fixed sequence of torch's operators ({error})"
        ) from error
    finally:
        module.train(training)
    return recorded


def _recorded(module: nn.Module, x: Tensor) -> GraphModule:
    """Recorded module, with in-place operators replaced where possible."""
    from torch.fx.experimental.proxy_tensor import make_fx  # seconds, which a listing of plugins must not take

    try:
        found: GraphModule = make_fx(torch.func.functionalize(module, remove="mutations"))(x)
    except RuntimeError as error:
        if "autograd.Function" not in str(error):
            raise
        found = make_fx(module)(x)  # what writes in place stays in the record, and is not understood
    return found
