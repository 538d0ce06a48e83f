"""What the tasks of one connection wait for, in a tenth of the memory that asyncio's own takes.

`asyncio.Queue` and `asyncio.Event` have four deques together, of 600 bytes each though they are
empty, and there are thousands of connections on which nothing happens.
"""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """An asyncio.Queue without a bound, for one task that gets."""

    __slots__ = ("_items", "_waiter")

    def __init__(self) -> None:
        self._items: list[T] = []
        self._waiter: asyncio.Future[None] | None = None

    def put_nowait(self, item: T) -> None:
        """Add it."""
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> T:
        """Wait for the next one; a cancelled call loses nothing."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._items.pop(0)

    def empty(self) -> bool:
        """Whether there is none."""
        return not self._items


class Flag:
    """An asyncio.Event, set at first."""

    __slots__ = ("_until_set",)

    def __init__(self) -> None:
        self._until_set: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        """Whether nobody has to wait."""
        return self._until_set is None

    def set(self) -> None:
        """Let those go on who wait."""
        if self._until_set is not None:
            self._until_set.set_result(None)
            self._until_set = None

    def clear(self) -> None:
        """Let those wait who come."""
        if self._until_set is None:
            self._until_set = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Until it is set."""
        if self._until_set is not None:
            await asyncio.shield(self._until_set)  # several may wait, and one be cancelled
