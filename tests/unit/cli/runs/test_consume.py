"""What `lykke consume --idle` takes for silence."""

import asyncio
from typing import cast

import pytest

from lykke_cli.application.consuming import StreamEntry
from lykke_cli.application.gateways.group_protocol import GroupConsumerProtocol
from lykke_cli.cli.runs.consume import next_entries

IDLE = 0.02  # seconds


class Quiet:
    """Gives nothing, and for the first `away` times that it is asked it could not have."""

    def __init__(self, *, away: int, when_it_ends: bool = False) -> None:
        self._away = away
        self._when_it_ends = when_it_ends
        self._since: float | None = None
        self.asked: list[float] = []

    @property
    def reads_since(self) -> float | None:
        return self._since

    async def get(self, timeout: float | None = None) -> list[StreamEntry]:
        assert timeout is not None
        self.asked.append(timeout)
        is_back = len(self.asked) == self._away + 1
        clock = asyncio.get_running_loop().time
        if is_back and not self._when_it_ends:
            self._since = clock()
        await asyncio.sleep(timeout)
        if is_back and self._when_it_ends:
            self._since = clock()
        return []


@pytest.mark.parametrize("away", [0, 1, 3])
async def test_an_outage_is_no_silence(away: int) -> None:
    consumer = Quiet(away=away)
    assert await next_entries(cast(GroupConsumerProtocol, consumer), IDLE) == []
    assert len(consumer.asked) > away


async def test_silence_counts_from_the_end_of_the_outage() -> None:
    consumer = Quiet(away=1, when_it_ends=True)
    assert await next_entries(cast(GroupConsumerProtocol, consumer), IDLE) == []
    assert len(consumer.asked) > 2
    assert sum(consumer.asked) > 2 * IDLE
