"""At most so many a second."""

import asyncio

from lykke_cli.application.pace import MADE_UP, Pace


async def waits(pace: Pace, number: int) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(number):
        await pace.wait()
    return loop.time() - started


async def test_without_a_rate_nobody_waits() -> None:
    assert not Pace(None).is_limited
    assert await waits(Pace(None), 1000) < 1


async def test_a_rate_is_kept_but_for_what_may_be_made_up() -> None:
    rate, number = 100.0, 40
    assert await waits(Pace(rate), number) >= number / rate - 2 * MADE_UP
