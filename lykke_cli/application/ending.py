"""Ending tasks, also those that do not heed a first cancellation."""

import asyncio
from collections.abc import Collection
from math import inf
from typing import Any

CANCEL_AGAIN = 0.1  # seconds


async def end(tasks: Collection["asyncio.Task[Any]"], *, timeout: float = inf) -> None:
    """Cancel the tasks and wait until they have ended, for `timeout` seconds at most.

    Once may not be enough: asyncio.wait_for, which asyncpg uses, may swallow a cancellation that
    comes in the moment in which what it waits for is done (before Python 3.12).
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + timeout
    while (running := [task for task in tasks if not task.done()]) and loop.time() < give_up:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN)
