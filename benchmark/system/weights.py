"""Weights of a module as a safetensors file; separate from training, so that reading them does not import Lightning."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.records.durable import put_in_place

__all__ = ["copied", "load_weights", "save_weights"]


def copied(model: nn.Module) -> nn.Module:
    """Independent copy of a module with the same weights.

    Tensors that old-style weight and spectral normalisation recompute in each pass lose their graph, with which they
    cannot be copied. TorchScript modules are copied without gradients, so that parameters do not become results.
    """
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                vars(module)[name] = value.detach()
    with torch.no_grad():
        return copy.deepcopy(model)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a module's state as safetensors, atomically."""
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.part")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}, str(temporary))
    put_in_place(temporary, path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read a file written by `save_weights`; names and shapes must agree."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(str(path)))
