"""Colours mean something, and mean it everywhere."""

import pytest

from lykke_cli.cli.output.palette import Color, color_of_type, color_of_user


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
    assert Color.RED not in {*map(color_of_type, names), *map(color_of_user, names)}


def test_each_colour_is_one_of_the_themes_sixteen() -> None:
    assert [color.code for color in Color] == ["31", "32", "33", "34", "35", "36", "94", "95"]
    assert Color.BRIGHT_BLUE.style == "color(12)"
