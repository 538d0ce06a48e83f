"""`/history/{user_id}`, and `/history` of every user: a line for each entry that was committed.

The connections to the database are few, and lent. From a client that does not keep up one is taken
back; when it has taken what there was, it gets one again, and goes on after the last entry, or from
the cursor after it.
"""

import asyncio
from collections.abc import Sequence, Set
from contextlib import aclosing
from datetime import datetime
from uuid import UUID

import msgspec

from lykke_cli.application.backfill import Range, catch_up, read_range
from lykke_cli.application.ending import end
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import Arrival, Entry, UnreadableEntry, to_line
from lykke_cli.web.frames import Message
from lykke_cli.web.queries import HISTORY, Asked, asked
from lykke_cli.web.streaming import Stream, body

PATIENCE = 1.0  # seconds for which a connection waits for the client


class _Place(msgspec.Struct, frozen=True):
    """Where it goes on: at this time, after the entries of it that were sent."""

    moment: datetime
    ids: frozenset[str]


class HistoryStream(Stream):
    """One request."""

    kind = "history"
    media_type = b"application/x-ndjson"
    _writing: asyncio.Task[None] | None = None

    async def work(self) -> None:
        """Read and write, until all is sent."""
        wanted = asked(self.connection.scope["query_string"], HISTORY)
        try:
            if wanted.cursor is not None:
                await self._catch_up(wanted, self.service.cursors.open(self.user_id, wanted.cursor))
            else:
                await self._send_range(wanted)
        finally:
            if self._writing is not None:
                await end({self._writing})

    @property
    def _users(self) -> Set[UUID] | None:
        return None if self.user_id is None else {self.user_id}

    async def _catch_up(self, wanted: Asked, checkpoint: Checkpoint) -> None:
        """What was committed since, and the cursor from which to go on."""
        users, filters = self._users, wanted.filters
        while True:
            async with self.service.hub.history() as history:
                changes = catch_up(history, users, filters, resume=checkpoint, since=None)
                async with aclosing(changes):
                    is_taken = True
                    async for event in changes:
                        if isinstance(event, Print):
                            is_taken = await self._is_taken(event.arrivals)
                        elif isinstance(event, Save):
                            checkpoint = event.checkpoint
                            if not is_taken:
                                break
                    else:
                        break
            await self._written()
        await self._written()
        cursor = self.service.frames.cursor(self.user_id, checkpoint) or ""
        last = b'{"type":"caught_up","cursor":"%b"}\n' % cursor.encode("ascii")
        await self.write(body(last))

    async def _send_range(self, wanted: Asked) -> None:
        users, filters = self._users, wanted.filters
        chosen = Range(since=wanted.since, first=wanted.first, last=wanted.last)
        place: _Place | None = None
        left = wanted.first or wanted.last
        while True:
            async with self.service.hub.history() as history:
                reading = read_range(history, users, filters, chosen)
                async with aclosing(reading):
                    async for arrivals in reading:
                        new = _without(arrivals, place)
                        left = None if left is None else left - len(new)
                        if await self._is_taken(new):
                            continue
                        if (place := _place_after(arrivals)) is not None:
                            break
                        await self._written()  # there are too many of one moment to go on between
                    else:
                        break
            await self._written()
            if left == 0:
                return
            first = None if left is None else left + len(place.ids)
            chosen = Range(since=place.moment, first=first)
        await self._written()

    async def _is_taken(self, arrivals: Sequence[Arrival]) -> bool:
        """Write them; False where the client keeps it waiting. Then `_written` is called next."""
        if not arrivals:
            return True
        text = b"".join([to_line(arrival.message) + b"\n" for arrival in arrivals])
        self._writing = asyncio.create_task(self.write(body(text)))
        done, _ = await asyncio.wait({self._writing}, timeout=PATIENCE)
        if done:
            await self._written()
        return bool(done)

    async def _written(self) -> None:
        """All was taken that was written."""
        if self._writing is not None:
            await self._writing

    def error_message(self, text: bytes) -> Message:
        """A line that is no entry."""
        return body(text + b"\n")


def _place_after(arrivals: Sequence[Arrival]) -> _Place | None:
    """Where to go on after these; None where they are of one moment alone, or the last of none."""
    ids: set[str] = set()
    last = arrivals[-1].message
    for arrival in reversed(arrivals):
        entry = arrival.message
        if not isinstance(entry, Entry) or not isinstance(last, Entry):
            return None
        if entry.occurred_at != last.occurred_at:
            return _Place(last.moment, frozenset(ids))
        ids.add(entry.id)
    return None


def _without(arrivals: Sequence[Arrival], place: _Place | None) -> Sequence[Arrival]:
    """Those of them that were not sent before."""
    if place is None:
        return arrivals
    return [
        arrival
        for arrival in arrivals
        if not isinstance(arrival.message, Entry | UnreadableEntry)
        or arrival.message.id not in place.ids
    ]
