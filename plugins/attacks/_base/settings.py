"""Checks of settings and input shapes that attacks share. Each raises an error that names the field."""

from __future__ import annotations

from benchmark.api import ConfigError, Refused

__all__ = ["check_at_least", "check_images", "check_positive", "check_share"]


def check_at_least(least: float, **values: float) -> None:
    """Refuse a value below `least` (ConfigError)."""
    for name, value in values.items():
        if not value >= least:
            raise ConfigError(f"attack.{name} is {value}; expected at least {least}")


def check_positive(**values: float | None) -> None:
    """Refuse a length that is not positive (ConfigError); None stands for a default."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"attack.{name} is {value}; expected more than 0, in units of the [0, 1] input range")


def check_share(**values: float) -> None:
    """Refuse a share outside (0, 1] (ConfigError)."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise ConfigError(f"attack.{name} is {value}; expected a share above 0 and at most 1")


def check_images(shape: tuple[int, ...], name: str) -> tuple[int, int]:
    """Height and width of images (C, H, W); refuse other shapes on behalf of the attack `name` (Refused)."""
    if len(shape) != 3:
        raise Refused(f"attack.{name} needs images of shape (C, H, W), and one example has shape {tuple(shape)}")
    return shape[1], shape[2]
