"""Shades that tell hours apart, whatever the greatest is."""

import pytest

from lykke_cli.cli.reports.charts import SHADES, greatest_of_shades, heat_map, shade


def week(*values: int) -> list[list[int]]:
    """These hours, and nothing in all others."""
    hours = [*values, *[0] * (7 * 24 - len(values))]
    return [hours[day * 24 : day * 24 + 24] for day in range(7)]


@pytest.mark.parametrize(
    ("values", "greatest"),
    [
        ((), []),
        ((5,), [5]),
        ((1, 2), [1, 2]),
        ((1, 2, 3, 1_000_000), [1, 2, 3, 1_000_000]),
        (tuple(range(1, 101)), [25, 50, 75, 100]),
    ],
)
def test_each_shade_is_of_as_many_hours(values: tuple[int, ...], greatest: list[int]) -> None:
    assert greatest_of_shades(week(*values)) == greatest


def test_one_great_hour_does_not_hide_the_others() -> None:
    greatest = greatest_of_shades(week(1, 2, 3, 1_000_000))
    assert [shade(value, greatest) for value in (0, 1, 2, 3, 1_000_000)] == [0, 1, 2, 3, 4]


def test_the_most_is_always_the_darkest_and_the_legend_says_what_shades_mean() -> None:
    lines = [line.plain for line in heat_map(week(7, 7, 7, 9), 100)]
    assert SHADES[-2] * 12 + SHADES[-1] * 4 in lines[1]
    assert lines[-1].split() == ["·", "none", "▓", "to", "7", "█", "to", "9"]
