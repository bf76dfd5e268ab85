"""A plot shows its numbers where they belong, says them in words, and carries nothing that acts or loads."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.support.tables import Number
from cirbench.support.tables.svg import Plot, Point, Series, name_axis, point_axis, to_svg, value_axis
from tests.support.tables.test_render import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"
POINTS = (Point(0.75, Number(16, 14, 18)), Point(0.25, Number(17.5, 15.5, 19.5)), Point(0.5, Number(17, 15, 19)))
SWEEP = Plot(
    "mAP@5 on scenes/val@1",
    "mask_ratio",
    "mAP@5 (%)",
    (Series("pli", POINTS),),
    levels=(("image-text", Number(16.4)),),
)


def markers(svg: str) -> list[tuple[float, float]]:
    """Where each marker starts."""
    found = re.findall(r'class="marker" d="M([\d.]+) ([\d.]+)', svg)
    return [(float(x), float(y)) for x, y in found]


def test_points_stand_in_the_order_of_their_parameter_and_higher_is_up() -> None:
    xs, ys = zip(*markers(to_svg(SWEEP)), strict=True)
    assert list(xs) == sorted(xs)
    assert ys[0] < ys[1] < ys[2]  # 17.5, 17, 16


def test_intervals_reach_from_end_to_end() -> None:
    svg = to_svg(SWEEP)
    spans = [
        (float(low), float(high)) for low, high in re.findall(r'class="interval" d="M[\d.]+ ([\d.]+)V([\d.]+)', svg)
    ]
    heights = [low - high for low, high in spans]
    assert len(spans) == 3 and heights == pytest.approx([heights[0]] * 3, abs=0.2)  # all four points high
    for (_, y), (low, high) in zip(markers(svg), spans, strict=True):
        assert y == pytest.approx((low + high) / 2, abs=0.1)


def test_every_value_is_said_in_words() -> None:
    root = ElementTree.fromstring(to_svg(SWEEP))
    title, description = (root.find(f"{SVG}{tag}") for tag in ("title", "desc"))
    assert title is not None and title.text == "mAP@5 on scenes/val@1"
    assert description is not None and description.text == (
        "mAP@5 (%) by mask_ratio. pli: 0.75: 16.00 (14.00 to 18.00); 0.25: 17.50 (15.50 to 19.50); "
        "0.5: 17.00 (15.00 to 19.00). image-text: 16.40."
    )
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"


def test_names_stand_side_by_side_and_are_not_joined() -> None:
    points = tuple(Point(name, Number(at)) for at, name in enumerate(("raw", "normalised", "weighted")))
    svg = to_svg(Plot("", "sum", "R@1", (Series("", points),)))
    xs = [x for x, _ in markers(svg)]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2) and "<polyline" not in svg
    assert all(f">{name}</text>" in svg for name in ("raw", "normalised", "weighted"))


def test_several_series_have_a_key_and_shapes_of_their_own() -> None:
    series = tuple(Series(name, (Point(1, Number(1)), Point(2, Number(2)))) for name in ("a", "b", "c"))
    svg = to_svg(Plot("", "x", "y", series))
    shapes = {re.sub(r"^M[\d.]+ [\d.]+", "", path) for path in re.findall(r'class="marker" d="([^"]+)"', svg)}
    assert len(shapes) == 3
    assert [text for text in ("a", "b", "c") if f">{text}</text>" in svg] == ["a", "b", "c"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(text: str) -> None:
    plot = Plot(text, text, text, (Series(text, (Point(text, Number(1, note=text)),)),) * 2, ((text, Number(2)),))
    tags = {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(to_svg(plot)).iter()}
    assert tags <= {"svg", "title", "desc", "text", "line", "g", "path", "polyline"}


def test_nothing_is_loaded_from_anywhere() -> None:
    svg = to_svg(SWEEP).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|url\(|href|<script|<image|<style", svg)


def test_text_takes_the_colour_of_the_page_and_series_can_be_given_one() -> None:
    svg = to_svg(SWEEP)
    assert 'fill="currentColor"' in svg and "var(--plot-1, #0072b2)" in svg


def test_a_plot_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a point"):
        Plot("", "", "", (Series("", ()),))


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6))
def test_a_value_axis_holds_all_values_between_round_ticks(values: list[float]) -> None:
    axis = value_axis(values)
    assert 2 <= len(axis.ticks) <= 8
    assert all(-1e-9 <= axis.place(value) <= 1 + 1e-9 for value in values)
    assert (axis.ticks[0].place, axis.ticks[-1].place) == (0, 1)
    assert len({tick.text for tick in axis.ticks}) == len(axis.ticks)
    for tick in axis.ticks:
        assert axis.place(float(tick.text)) == pytest.approx(tick.place, abs=1e-3)


def test_parameters_over_powers_of_ten_stand_at_equal_distances() -> None:
    axis = point_axis([1e-6, 1e-5, 1e-4])
    first, middle, last = (tick.place for tick in axis.ticks)
    assert axis.logarithmic and middle - first == pytest.approx(last - middle)
    assert [tick.text for tick in axis.ticks] == ["1e-06", "1e-05", "0.0001"]
    assert not point_axis([0.25, 0.5, 0.75]).logarithmic and not point_axis([0, 1000]).logarithmic


def test_values_that_are_no_round_numbers_stand_between_round_ticks() -> None:
    assert [tick.text for tick in point_axis([151.3, 427.6, 2539.6]).ticks] == ["200", "500", "1000", "2000"]
    assert [tick.text for tick in point_axis([151.3, 427.6]).ticks] == ["200", "300", "400"]
    assert [tick.text for tick in point_axis([2019, 2023]).ticks] == ["2019", "2023"]


def test_one_value_stands_in_the_middle() -> None:
    assert point_axis([3]).ticks[0].place == 0.5 and name_axis(["x"]).ticks[0].place == 0.5
