"""A module's weights as a safetensors file. Apart from training, so that reading them does not import Lightning."""

from __future__ import annotations

from pathlib import Path

from torch import nn

__all__ = ["load_weights", "save_weights"]


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a module's state as safetensors, atomically."""
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.part")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}, str(temporary))
    temporary.replace(path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read what `save_weights` wrote; names and shapes must agree."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(str(path)))
