"""Bars of the histogram are a range of time."""

import pytest

from tests.page_modules import result_of

BARS = [
    {"from": f"2026-01-31T0{n}:00:00Z", "to": f"2026-01-31T0{n + 1}:00:00Z", "total": n}
    for n in range(3)
]


@pytest.mark.parametrize(
    ("bars", "until", "expected"),
    [
        ([0, 1], None, ("00", "2026-01-31T02:00:00Z")),
        ([1, 0], None, ("00", "2026-01-31T02:00:00Z")),
        ([1, 2], None, ("01", "")),  # the newest goes on
        ([1, 2], "now", ("01", "2026-01-31T03:00:00Z")),
    ],
)
def test_chosen_bars_are_a_range(bars: list[int], until: str, expected: tuple[str, str]) -> None:
    range = result_of("ranges.js", "return m.rangeOf(...given)", BARS, bars, until)
    assert range == {"since": f"2026-01-31T{expected[0]}:00:00Z", "until": expected[1]}


def test_a_bar_is_said_in_words() -> None:
    words = result_of("ranges.js", "return given[0].map((_, i) => m.spanText(given[0], i))", BARS)
    assert words[1:] == [
        "2026-01-31 01:00:00 to 02:00:00: 1 entry",
        "2026-01-31 02:00:00 to 03:00:00: 2 entries",
    ]
