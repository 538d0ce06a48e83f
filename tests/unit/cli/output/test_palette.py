"""Colours mean something, and mean it everywhere."""

import pytest

from lykke_cli.cli.output.palette import Color, UserColors, color_of_type


@pytest.mark.parametrize(
    ("activity", "color"),
    [
        ("LOGIN_FAILED", Color.RED),
        ("TaskFailedEvent", Color.RED),
        ("SYNC_ERROR_RETRIED", Color.RED),
        ("permission.denied", Color.RED),
        ("TASK_DELETED", Color.RED),
        ("TASK_COMPLETED", Color.GREEN),
        ("TaskCompletedEvent", Color.GREEN),
        ("TASK_PUNTED", Color.YELLOW),
    ],
)
def test_a_type_has_the_colour_of_what_happened(activity: str, color: Color) -> None:
    assert color_of_type(activity) is color


def test_red_is_for_nothing_else() -> None:
    names = [f"NAME_{n}" for n in range(200)]
    assert Color.RED not in {*map(color_of_type, names), *map(UserColors().of, names)}


def test_users_have_different_colours_as_long_as_there_are_some() -> None:
    colors = UserColors()
    names = [f"user {n}" for n in range(100)]
    given = [colors.of(name) for name in names]
    assert len(set(given[:7])) == len(set(given)) == 7
    assert [colors.of(name) for name in names] == given
    assert colors.of(names[0]) is UserColors().of(names[0])


def test_each_colour_is_one_of_the_themes_sixteen() -> None:
    assert [color.code for color in Color] == ["31", "32", "33", "34", "35", "36", "94", "95"]
    assert Color.BRIGHT_BLUE.style == "color(12)"
