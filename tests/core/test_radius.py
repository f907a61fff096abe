"""Radii: what is read exactly, what is refused at once, and the rounding that core and leaderboard forgive alike."""

from fractions import Fraction

import pytest

from benchmark.errors import ConfigError
from benchmark.threat import Norm, parse_eps, tolerance


@pytest.mark.parametrize(
    ("text", "eps"),
    [
        ("8/255", Fraction(8, 255)), ("16/510", Fraction(8, 255)), (" 8 / 255", Fraction(8, 255)), ("3", Fraction(3)),
        (0.1, Fraction(1, 10)), ("1e-3", Fraction(1, 1000)), (1e-07, Fraction(1, 10**7)), (".5", Fraction(1, 2)),
        (Fraction(1, 3), Fraction(1, 3)),
    ],
)  # fmt: skip
def test_a_radius_means_what_is_written(text: str | float | Fraction, eps: Fraction) -> None:
    assert parse_eps(text) == eps


@pytest.mark.parametrize(
    "text", ["1e999999999", "1/0", "9" * 5000, "1/2/3", "nan", "inf", "0x1", "1_0", "٣", "", "--1"]
)
def test_what_is_no_radius_is_refused_without_building_a_number(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a fraction such as 8/255"):
        parse_eps(text)


def test_a_negative_radius_is_named_as_such() -> None:
    with pytest.raises(ConfigError, match="a radius cannot be negative"):
        parse_eps("-1/10")


@pytest.mark.parametrize("norm", list(Norm))
def test_the_tolerance_is_the_same_for_a_norm_and_for_its_name_in_a_record(norm: Norm) -> None:
    expected = 0.0 if norm is Norm.l0 else 1.5e-6
    assert tolerance(norm, 0.5) == tolerance(norm.value, 0.5) == expected
