"""A wider terminal never shows less."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lykke_cli.cli.output.layout import COLUMNS, ENOUGH, GAP, Layout, layout_for, layout_of

WIDTHS = range(1, 301)
OWN = [(show_user, relative) for show_user in (False, True) for relative in (False, True)]
KEYS = ("event_data.title", "user")


def assert_never_less(layouts: list[Layout]) -> None:
    for narrow, wide in pairwise(layouts):
        assert [name for name, _ in narrow.columns] == [
            name for name, _ in wide.columns if narrow.width_of(name)
        ]
        for name, width in narrow.columns:
            assert wide.width_of(name) >= width


def total(layout: Layout) -> int:
    return sum(width for _, width in layout.columns) + GAP * (len(layout.columns) - 1)


@pytest.mark.parametrize(("show_user", "relative"), OWN)
def test_no_column_shrinks_or_goes_as_the_width_grows(show_user: bool, relative: bool) -> None:
    layouts = [layout_for(w, show_user=show_user, relative=relative) for w in WIDTHS]
    assert_never_less(layouts)
    assert all(total(layout) <= layout.width for layout in layouts)


@pytest.mark.parametrize(("show_user", "relative"), OWN)
def test_details_grow_with_the_width(show_user: bool, relative: bool) -> None:
    layouts = [layout_for(w, show_user=show_user, relative=relative) for w in range(40, 301)]
    narrowest = layouts[0]
    assert narrowest.width_of("details") >= 12
    complete = [layout for layout in layouts if layout.width_of("entity")]
    assert complete[0].width < 60
    for narrow, wide in pairwise(complete):
        assert total(narrow) == narrow.width  # nothing is left unused
        grown = wide.width_of("details") - narrow.width_of("details")
        if narrow.width_of("details") < ENOUGH:
            assert grown == 1
        if grown == 0:  # never twice in a row: half of it is theirs
            wider = layout_for(wide.width + 1, show_user=show_user, relative=relative)
            assert wider.width_of("details") == wide.width_of("details") + 1


@pytest.mark.parametrize(("show_user", "relative"), OWN)
def test_other_columns_get_air_only_once_the_details_have_enough(
    show_user: bool, relative: bool
) -> None:
    layouts = [layout_for(w, show_user=show_user, relative=relative) for w in range(60, 301)]
    without_air = layouts[0].columns[:-1]
    for layout in layouts:
        if layout.width_of("details") < ENOUGH:
            assert layout.columns[:-1] == without_air
    assert layouts[-1].width_of("entity") == 46


@given(st.lists(st.sampled_from([*COLUMNS, *KEYS]), min_size=1, unique=True))
def test_chosen_columns_keep_to_it_too(names: list[str]) -> None:
    layouts = [layout_of(names, width) for width in WIDTHS]
    assert_never_less(layouts)
    assert all(total(layout) <= layout.width for layout in layouts)
    assert [column.name for column in layouts[-1].columns] == names


@pytest.mark.parametrize(
    ("width", "details", "details_beside_users"),
    [(60, 23, 14), (80, 43, 34), (120, 72, 67), (160, 92, 87), (200, 117, 107)],
)
def test_the_details_at_usual_widths(width: int, details: int, details_beside_users: int) -> None:
    assert layout_for(width).width_of("details") == details
    assert layout_for(width, show_user=True).width_of("details") == details_beside_users
