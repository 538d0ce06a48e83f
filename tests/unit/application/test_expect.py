"""What an expectation that is not met says of what came instead."""

import pytest

from lykke_cli.application.expect import Expectation
from lykke_cli.application.filters import Filters
from lykke_cli.application.messages import Arrival, decode


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (0, "Nothing at all came for this user."),
        (1, "1 message came that is no audit log entry."),
        (2, "2 messages came that are no audit log entries."),
    ],
)
def test_what_is_no_entry_is_told_of(count: int, line: str) -> None:
    expectation = Expectation(Filters())
    assert expectation.take([Arrival(decode(b'{"type": "test"}'), "live")] * count) == []
    assert not expectation.is_met
    assert expectation.explain() == ["0 of 1 came.", line]
