"""Storing a place while a run lasts: soon after something was taken, and at the end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.ending import end
from lykke_cli.application.errors import OutputFailed, ServerUnavailable
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.place import SAVE_INTERVAL, Place
from lykke_cli.domain.errors import LykkeError

END_WAIT = 2.0  # seconds at the end of a run for tasks that were cancelled
OPENING_WAIT = 2.0  # seconds at the end of a run for a place that is still being opened


class PlaceKeeper:
    """Stores `place` while the block lasts: soon after it has moved, and at its end.

    Where the place is `needed`, one that cannot be stored raises OutputFailed; else `tell` is
    called with a line, once. `opening` gives the place its store, once there is something to store.
    """

    def __init__(
        self,
        place: Place,
        tell: Callable[[str], None],
        *,
        needed: bool = False,
        opening: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._place = place
        self._tell = tell
        self._needed = needed
        self._opening = opening
        self._may_open = asyncio.Event()
        self._opener: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._failed = False

    async def __aenter__(self) -> Self:
        if self._opening is not None:
            self._opener = asyncio.create_task(self._open(self._opening))
        self._timer = asyncio.create_task(self._keep_saving())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._opener is not None and self._may_open.is_set():
                await asyncio.wait([self._opener], timeout=OPENING_WAIT)
        finally:
            try:
                self.save(finally_=True)
            except OutputFailed:
                if not isinstance(exc, OutputFailed):  # which says it already
                    raise
            finally:
                tasks = [task for task in (self._timer, self._opener) if task is not None]
                await end(tasks, timeout=END_WAIT)

    def reached(self, checkpoint: Checkpoint) -> None:
        """Everything that `checkpoint` covers has been taken."""
        self._place.reached(checkpoint)
        self._may_open.set()
        self.save_if_due()

    def save_if_due(self) -> None:
        if self._place.is_due:
            self.save()

    def save(self, *, finally_: bool = False) -> None:
        """Store it now."""
        try:
            self._store(finally_=finally_)
        except OutputFailed as error:
            if self._needed:
                raise
            self._tell_once(error)

    def _store(self, *, finally_: bool) -> None:
        self._place.save(finally_=finally_)

    def _tell_once(self, error: OutputFailed) -> None:
        if not self._failed:
            self._failed = True
            self._tell(f"{str(error).rstrip('.')}; this run goes on without a place")

    async def _keep_saving(self) -> None:
        """Store the place from time to time, so that it is stored also when nothing more comes."""
        while True:
            await asyncio.sleep(SAVE_INTERVAL / 2)
            with suppress(Exception):  # raised with the next entry, or at the end
                self.save_if_due()

    async def _open(self, opening: Callable[[], Awaitable[None]]) -> None:
        await self._may_open.wait()  # the database has answered, and nothing waits for this
        backoff = Backoff()
        while True:
            try:
                await opening()
            except OutputFailed as error:
                self._tell_once(error)
                return
            except ServerUnavailable:  # the tail itself says what is with the database
                await asyncio.sleep(backoff.next())
            except LykkeError:
                return  # another run holds the place
            else:
                self.save_if_due()
                return
