"""Record what a module computes, operation by operation, whatever its classes say that it does.

torch.fx follows one pass at the level of torch's own operators, so that a forward of its own, a hook, a layer that is
used twice, a parametrised weight or an input transformation are in the record like everything else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from benchmark.api import Refused

__all__ = ["ROWS", "trace"]

ROWS = 7
"""Rows of the recorded pass: an operation that joins rows shows in its shape."""


def trace(module: nn.Module, shape: tuple[int, ...], owner: str) -> GraphModule:
    """The operators of one pass in evaluation mode; parameters are the module's own, not copies.

    Args:
        module: from (B, *S) in [0, 1] to (B, K). shape: S. owner: the plugin that asks, for messages.

    Raises:
        Refused: if the pass depends on values of the input in Python, fails, or does not give (B, K).
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
                raise Refused(f"{owner} takes a system with scores (B, K), and this one gives {kind} for {ROWS} rows")
            recorded = _recorded(module, x)
    except Refused:
        raise
    except Exception as error:
        raise Refused(
            f"{owner} cannot follow this system, whose pass is no fixed sequence of torch's operators ({error})"
        ) from error
    finally:
        module.train(training)
    return recorded


def _recorded(module: nn.Module, x: Tensor) -> GraphModule:
    """Operators that write in place are replaced by those that do not, where torch can."""
    from torch.fx.experimental.proxy_tensor import make_fx  # seconds, which a listing of plugins must not take

    try:
        found: GraphModule = make_fx(torch.func.functionalize(module, remove="mutations"))(x)
    except RuntimeError as error:
        if "autograd.Function" not in str(error):
            raise
        found = make_fx(module)(x)  # what writes in place stays in the record, and is not understood
    return found
