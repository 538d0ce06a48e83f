"""Moments as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from lykke_cli.application.times import age

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.9, "now"),
        (-0.9, "now"),
        (59, "59s ago"),
        (60, "1m ago"),
        (3599, "59m ago"),
        (86_399, "23h ago"),
        (86_400, "1d ago"),
        (365 * 86_400, "1y ago"),
        (-7200, "in 2h"),
    ],
)
def test_an_age_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == text
