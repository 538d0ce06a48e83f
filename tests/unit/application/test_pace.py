"""At most so many a second."""

import asyncio

import pytest

from lykke_cli.application.pace import Pace


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
