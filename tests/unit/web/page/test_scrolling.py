"""Of a list of any length only the rows in sight are drawn."""

import pytest

from tests.page_modules import result_of


@pytest.mark.parametrize(
    ("top", "total", "expected"),
    [
        (0, 0, {"first": 0, "last": 0}),
        (0, 5, {"first": 0, "last": 5}),
        (0, 20_000, {"first": 0, "last": 24}),
        (10_000, 20_000, {"first": 496, "last": 524}),
        (10_010, 20_000, {"first": 496, "last": 525}),
        (20_000 * 20, 20_000, {"first": 19_976, "last": 20_000}),
        (10**9, 100, {"first": 76, "last": 100}),  # more were there when it was scrolled
    ],
)
def test_the_rows_in_sight_are_drawn_and_a_few_beside(
    top: int, total: int, expected: dict[str, int]
) -> None:
    place = {"top": top, "height": 400, "rowHeight": 20, "total": total}
    assert result_of("scrolling.js", "return m.drawn(given[0])", place) == expected


@pytest.mark.parametrize(("top", "expected"), [(1600, True), (1595, True), (1580, False)])
def test_the_end_is_where_the_last_row_can_be_seen(top: int, expected: bool) -> None:
    place = {"top": top, "height": 400, "rowHeight": 20, "total": 100}
    assert result_of("scrolling.js", "return m.isAtEnd(given[0])", place) is expected


@pytest.mark.parametrize(("index", "expected"), [(2, 40), (10, 100), (24, 100), (25, 120)])
def test_a_row_is_brought_into_sight_by_the_shortest_way(index: int, expected: int) -> None:
    place = {"top": 100, "height": 400, "rowHeight": 20}
    assert result_of("scrolling.js", "return m.topFor(...given)", index, place) == expected
