"""What the tasks of a connection wait for, compared with what asyncio promises of its own."""

import asyncio

import pytest

from lykke_cli.web.waiting import Flag, Inbox

PATIENCE = 20.0  # seconds


async def settled() -> None:
    """Everybody has gone on who can."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_is_put_comes_in_its_order_whether_somebody_waits_or_not() -> None:
    inbox = Inbox[int]()
    assert inbox.empty()
    inbox.put_nowait(1)
    inbox.put_nowait(2)
    assert not inbox.empty()
    assert [await inbox.get(), await inbox.get()] == [1, 2]
    waiting = asyncio.create_task(inbox.get())
    await settled()
    assert not waiting.done()
    inbox.put_nowait(3)
    inbox.put_nowait(4)
    async with asyncio.timeout(PATIENCE):
        assert [await waiting, await inbox.get()] == [3, 4]
    assert inbox.empty()


async def test_a_cancelled_get_loses_nothing() -> None:
    inbox = Inbox[int]()
    for number in range(2):
        waiting = asyncio.create_task(inbox.get())
        await settled()
        if number:
            inbox.put_nowait(number)  # it is woken, and cancelled before it goes on
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    inbox.put_nowait(2)
    assert [await inbox.get(), await inbox.get()] == [1, 2]


async def test_all_wait_until_a_flag_is_set_and_one_that_is_cancelled_ends_no_others_wait() -> None:
    flag = Flag()
    assert flag.is_set()
    await flag.wait()
    flag.clear()
    flag.clear()
    assert not flag.is_set()
    given_up, one, other = (asyncio.create_task(flag.wait()) for _ in range(3))
    await settled()
    given_up.cancel()
    await settled()
    assert given_up.cancelled() and not one.done() and not other.done()
    flag.set()
    flag.set()
    flag.clear()  # at once: those who waited go on all the same
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(one, other)
