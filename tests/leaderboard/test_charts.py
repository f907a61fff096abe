"""Charts: valid XML, points where the numbers say, the Pareto front against brute force."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from benchmark_leaderboard.site.charts import Bar, Dot, Series, costs, curves, intervals, pareto, scatter, strip
from benchmark_leaderboard.words.display import count, decimals, difference, interval, number, percent, seconds
from hypothesis import given
from hypothesis import strategies as st

SVG = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def dot(x: float, y: float, label: str = "s") -> Dot:
    return Dot(label, x, max(0, x - 0.03), min(1, x + 0.03), y, max(0, y - 0.03), min(1, y + 0.03), False)


@pytest.mark.parametrize(
    ("low", "high", "places"),
    [
        (0.5, 0.6, 0),
        (0.5, 0.599, 1),
        (0.57, 0.66, 1),
        (0.602, 0.622, 1),
        (0.5, 0.508, 2),
        (0.5, 0.5, 1),
        (None, None, 1),
    ],
)
def test_the_last_digit_is_at_most_a_tenth_of_the_interval(low: float | None, high: float | None, places: int) -> None:
    assert decimals(low, high) == places


@given(st.floats(0, 1), st.floats(0.001, 0.5))
def test_rounding_never_claims_more_than_the_interval_knows(low: float, width: float) -> None:
    places = decimals(low, low + width)
    assert 10**-places <= 100 * width / 10 * (1 + 1e-6) or places == 3
    assert places == 0 or 10 ** -(places - 1) > 100 * width / 10 * (1 - 1e-6)


def test_numbers_as_people_write_them() -> None:
    assert percent(307 / 500, 0.5706, 0.6556) == "61.4"
    assert percent(None) == "\u2013"
    assert interval(0.5706, 0.6556) == "57.1\u201365.6"
    assert interval(None, None) == ""
    assert difference(-0.0314) == "\u22123.1"
    assert difference(0.0314) == "+3.1"
    assert difference(-0.0001) == "0.0"
    assert [number(v) for v in (0.1, 8 / 255, 0, 1234.5, -2.0, 1e-9, None)] == [
        "0.1", "0.03137", "0", "1\u202f234", "\u22122", "1e\u221209", "\u2013",
    ]  # fmt: skip
    assert count(1234567) == "1\u202f234\u202f567"
    assert [seconds(v) for v in (0.25, 12.3, 600.0, 7200.0)] == ["0.25 s", "12 s", "10 min", "2.0 h"]


def test_an_interval_plot_puts_dots_and_bands_where_the_numbers_are() -> None:
    bars = [Bar("1", "one", 0.75, 0.70, 0.80, 0.97, 0.5, True), Bar("2 to 3", "two", 0.25, 0.2, 0.3, None, None, False)]
    root = parse(intervals("plot", bars, "Title", "A sentence.", width=408))
    assert root.attrib["aria-labelledby"] == "plot-title plot-desc"
    assert [root.find(f"{SVG}{tag}").text for tag in ("title", "desc")] == ["Title", "A sentence."]  # type: ignore[union-attr]
    assert [float(c.attrib["cx"]) for c in root.iter(f"{SVG}circle")] == [304, 104]
    bands = [p.attrib["d"] for p in root.iter(f"{SVG}path") if p.attrib["class"] == "band"]
    assert bands == ["M284 33L324 33", "M84 73L124 73"]
    assert sum(p.attrib["class"] == "tick" for p in root.iter(f"{SVG}path")) == 1
    assert [p.attrib["d"] for p in root.iter(f"{SVG}path") if p.attrib["class"] == "proved"] == ["M204 38l4 6h-8Z"]
    assert "70.0" not in "".join(root.itertext())
    assert ["".join(text.itertext()) for text in root.iter(f"{SVG}text")][5::2] == ["1 one", "2 to 3 two"]


@pytest.mark.parametrize("front", [True, False])
def test_a_long_name_leaves_room_for_its_number(front: bool) -> None:
    bar = Bar("12 to 140", "a_name_without_end" * 20, 0.5, 0.49995, 0.50005, None, None, front)
    root = parse(intervals("plot", [bar], "Title", "A sentence.", width=420))
    name, number = ("".join(text.itertext()) for text in list(root.iter(f"{SVG}text"))[5:])
    assert name.startswith("12 to 140 a_name")
    first, _, last = name.partition("\N{HORIZONTAL ELLIPSIS}")
    assert len(first) > len(last) > 0
    assert bar.label.endswith(last)
    assert 30 < len(name) < 420 / (15 * (0.62 if front else 0.56)) - len(number)


def test_text_in_charts_is_escaped() -> None:
    nasty = '<script>alert("1")</script>'
    svg = intervals("plot", [Bar(nasty, nasty, 0.5, 0.4, 0.6, None, None, False)], nasty, nasty)
    assert "<script" not in svg
    assert parse(svg).find(f"{SVG}title").text == nasty  # type: ignore[union-attr]
    assert "<script" not in scatter("s", [dot(0.5, 0.5, nasty)], nasty, nasty, nasty, nasty)
    assert "<script" not in curves("c", [Series(nasty, ((0, 1, 1, 1),))], nasty, nasty, nasty, 0.1)


def steps_of(svg: str) -> list[str]:
    line = next(p.attrib["d"] for p in parse(svg).iter(f"{SVG}path") if p.attrib["class"].startswith("curve"))
    return re.findall(r"[A-Z][^A-Z]*", line)


def test_a_curve_is_drawn_as_steps_never_as_slopes() -> None:
    one = Series("one", ((0, 1, 0.9, 1), (0.1, 0.5, 0.4, 0.6), (0.15, 0.5, 0.4, 0.6), (0.2, 0, 0, 0.1)))
    svg = curves("c", [one], "t", "d", "eps", 0.2)
    assert steps_of(svg) == ["M40 12", "H268", "V144", "H496", "V276"]
    area = next(p.attrib["d"] for p in parse(svg).iter(f"{SVG}path") if p.attrib["class"].startswith("area"))
    assert area.startswith("M40 12H268V117.6H496V249.6")
    assert area.endswith("Z")


def test_a_curve_of_many_steps_is_thinned_to_what_the_page_can_show() -> None:
    many = tuple((k / 1e5, 1 - k / 1e4, max(0.0, 0.99 - k / 1e4), 1 - k / 1e4) for k in range(10_001))
    steps = steps_of(curves("c", [Series("many", many)], "t", "d", "eps", 0.1))
    assert len(steps) < 500
    x, y = 40.0, 12.0
    for step in steps[1:]:
        x, y = (float(step[1:]), y) if step[0] == "H" else (x, float(step[1:]))
        assert abs((x - 40) / 456 - (y - 12) / 264) < 3 / 264
    assert (x, y) == (496, 276)


def test_letters_at_the_ends_of_curves_keep_apart_and_in_order() -> None:
    ends = (0.3, 0.29, 0.28, 0.01, 0.0, 0.005)
    lines = [Series(f"s{at}", ((0, 1, 1, 1), (0.1, end, end, end))) for at, end in enumerate(ends)]
    words = parse(curves("c", lines, "t", "d", "eps", 0.1)).iter(f"{SVG}text")
    heights = [float(word.attrib["y"]) for word in words if word.text in list("ABCDEF")]
    assert len(heights) == 6
    assert sorted(range(6), key=lambda at: heights[at]) == sorted(range(6), key=lambda at: -ends[at])
    assert all(b - a >= 12.9 for a, b in pairwise(sorted(heights)))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_pareto_front_agrees_with_brute_force(places: list[tuple[int, int]]) -> None:
    dots = [dot(x / 10, y / 10, f"s{at}") for at, (x, y) in enumerate(places)]
    beaten = {
        d.label for d in dots for o in dots if o.x >= d.x and o.y >= d.y and (o.x > d.x or o.y > d.y)
    }  # fmt: skip
    assert {d.label for d in pareto(dots)} == {d.label for d in dots} - beaten


def test_labels_of_a_scatter_plot_do_not_cover_each_other() -> None:
    crowd = [dot(0.5 + at / 1000, 0.5, f"system number {at}") for at in range(20)]
    root = parse(scatter("s", [*crowd, dot(0.9, 0.9, "alone")], "t", "d", "clean", "robust"))
    words = [t.text for t in root.iter(f"{SVG}text")]
    assert "alone" in words
    assert sum(str(word).startswith("system number") for word in words) < 5
    assert sum(t.text is not None and "system number" in t.text for t in root.iter(f"{SVG}title")) == 20


def test_a_strip_is_decoration() -> None:
    assert 'aria-hidden="true"' in strip(0.5, 0.4, 0.6, 0.9, 0.3, True)
    assert 'd="M40 6H60"' in strip(0.5, 0.4, 0.6, None, None, False)
    assert "tick" not in strip(0.5, 0.4, 0.6, None, None, False)


def test_a_cost_chart_is_logarithmic_and_its_front_is_cheap_and_high() -> None:
    dots = [
        Dot(label, cost, cost, cost, share, share - 0.02, share + 0.02, False)
        for label, cost, share in [("free", 0, 0.05), ("cheap", 9, 0.4), ("dear", 99, 0.6), ("worse", 50, 0.3)]
    ]
    root = parse(costs("c", dots, "t", "d", "passes", "success"))
    places = [float(c.attrib["cx"]) for c in root.iter(f"{SVG}circle")]
    at = {tick: 40 + 460 * math.log10(1 + tick) / math.log10(1001) for tick in (0, 9, 99, 50)}
    assert places == pytest.approx([at[0], at[9], at[99], at[50]], abs=0.05)
    (stairs,) = [p.attrib["d"] for p in root.iter(f"{SVG}path") if p.attrib["class"] == "pareto"]
    corners = [float(x) for x in re.findall(r"[ML](\S+) ", stairs)]
    assert corners == pytest.approx([500, at[99], at[99], at[9], at[9], at[0], at[0]], abs=0.05)
    assert [t.text for t in root.iter(f"{SVG}text")][:5] == ["0", "1", "10", "100", "1\u202f000"]
