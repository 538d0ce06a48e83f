"""At most so many a second, or a share of the time."""

import asyncio
import math

import pytest

from lykke_cli.application.pace import Pace, Share


async def waits(pace: Pace, number: int) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(number):
        await pace.wait()
    return loop.time() - started


def test_without_a_rate_nobody_waits() -> None:
    assert not Pace(None).is_limited
    with pytest.raises(StopIteration):  # it ends, and the loop was asked for nothing
        Pace(None).wait().send(None)


async def test_a_rate_is_kept_from_the_first_on() -> None:
    rate, number = 100.0, 20
    assert await waits(Pace(rate), number) >= (number - 1) / rate


def test_a_share_of_the_time_is_kept() -> None:
    share = Share(0.1, longest=5.0)
    assert share.due == math.inf
    share.begins(100.0)
    share.ended(100.5)
    assert share.due == 105.0  # half a second of five
    share.begins(105.0)
    assert share.due == math.inf
    share.ended(107.0)
    assert share.due == 112.0  # no pause is longer


def test_what_is_wanted_is_due_at_once_and_what_is_due_is_not_put_off() -> None:
    share = Share(0.5, longest=5.0)
    share.wanted(10.0)
    share.wanted(11.0)
    assert share.due == 10.0
