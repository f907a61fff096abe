"""Answers per pixel and boxes over the images of a gallery, and the task beside the data set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from benchmark_leaderboard.board import Conditions
from benchmark_leaderboard.cells.overlays import COLOURS, COVER, drawable, overlaid
from benchmark_leaderboard.ranking.grouping import conditions_key, protocol
from benchmark_leaderboard.words.wording import suite_title

from benchmark.threat import parse_eps


def test_pixels_of_a_class_are_covered_by_its_colour_and_background_is_not() -> None:
    image = np.full((1, 24, 24), 0.5, np.float32)
    label = np.zeros((24, 24), np.int16)
    label[3, 5] = 2
    drawn = overlaid(image, label.reshape(-1))
    assert drawn.shape == (3, 48, 48)
    covered = (1 - COVER) * 0.5 + COVER * COLOURS[1]
    assert np.allclose(drawn[:, 6:8, 10:12], covered[:, None, None])
    drawn[:, 6:8, 10:12] = 0.5
    assert np.allclose(drawn, 0.5)


def test_a_detection_is_an_outline_of_its_box() -> None:
    found = np.zeros((4, 6), np.float32)
    found[1] = (1.0, 0.9, 2.0, 4.0, 10.0, 12.0)
    drawn = overlaid(np.zeros((3, 48, 48), np.float32), found)
    edge = np.zeros((48, 48), bool)
    edge[4:12, 2:10] = True
    edge[5:11, 3:9] = False
    assert np.allclose(drawn[:, edge], COLOURS[0][:, None])
    assert not drawn[:, ~edge].any()


def test_a_box_beyond_the_image_is_cut() -> None:
    found = np.array([[3.0, 0.9, -5.0, -5.0, 99.0, 99.0]], np.float32)
    drawn = overlaid(np.zeros((1, 64, 64), np.float32), found)
    assert np.allclose(drawn[:, 0], COLOURS[2][:, None])
    assert not drawn[:, 1:-1, 1:-1].any()


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        (np.zeros((2, 64), np.int16), True),
        (np.zeros((2, 63), np.int16), False),
        (np.zeros((2, 9, 6), np.float32), True),
        (np.full((2, 9, 6), np.nan, np.float32), False),
        (np.zeros((2, 64), np.float64), False),
    ],
)
def test_answers_that_fit_no_image_are_not_drawn(values: np.ndarray, fits: bool) -> None:
    assert drawable({"clean_sites": values, "adv_sites": values}, (2, 1, 8, 8)) is fits
    assert not drawable({"adv_sites": values}, (2, 1, 8, 8))


def test_a_board_names_its_task_and_one_label_goes_without_saying() -> None:
    plain = Conditions("s@1", True, "scenes", "r", "ab" * 32, 10, "linf", "untargeted", True, "full")
    dense = dataclasses.replace(plain, task="segmentation")
    assert suite_title(protocol(plain, parse_eps("8/255"))) == "Suite s@1: scenes"
    assert suite_title(protocol(dense, parse_eps("8/255"))) == "Suite s@1: scenes, segmentation"
    assert conditions_key(plain) != conditions_key(dense)
    assert "task" not in plain.content
