"""At most so many a second."""

import asyncio

from lykke_cli.application.pace import Pace


async def waits(pace: Pace, number: int) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(number):
        await pace.wait()
    return loop.time() - started


async def test_without_a_rate_nobody_waits() -> None:
    assert not Pace(None).is_limited
    assert await waits(Pace(None), 1000) < 1


async def test_a_rate_is_kept_from_the_first_on() -> None:
    rate, number = 100.0, 20
    assert await waits(Pace(rate), number) >= (number - 1) / rate
