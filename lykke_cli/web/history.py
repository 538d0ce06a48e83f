"""`/history/{user_id}`, and `/history` of every user: a line for each entry that was committed.

The connections to the database are few, and lent. From a client that does not keep up one is taken
back; when it has taken what there was, it gets one again, and goes on after the last entry, or from
the cursor after it.
"""

import asyncio
from collections.abc import Sequence, Set
from contextlib import aclosing
from uuid import UUID

import msgspec

from lykke_cli.application.backfill import Range, catch_up, read_range
from lykke_cli.application.csv_rows import CSV_COLUMNS, csv_row, csv_text
from lykke_cli.application.ending import end
from lykke_cli.application.gateways.history_protocol import Place
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import Arrival, Entry, to_line
from lykke_cli.application.statuses import Notice
from lykke_cli.web.frames import Frame, Message, as_json, notice_frame, own_frame, with_cursor
from lykke_cli.web.queries import HISTORY, Asked, asked
from lykke_cli.web.streaming import Stream, body

CSV = b"text/csv; charset=utf-8"
PATIENCE = 1.0  # seconds for which a connection waits for the client


class HistoryStream(Stream):
    """One request."""

    kind = "history"
    media_type = b"application/x-ndjson"
    _writing: asyncio.Task[None] | None = None
    _is_csv = False
    _head = b""
    """What is still to be written before the first entry."""

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
                        elif isinstance(event, Notice) and event.may_repeat:
                            await self._tell(notice_frame(event.text))
                        elif isinstance(event, Save):
                            checkpoint = event.checkpoint
                            if not is_taken:
                                break
                    else:
                        break
            await self._written()
        await self._written()
        cursor = self.service.cursors.seal(self.user_id, checkpoint)
        await self._tell(with_cursor(own_frame("caught_up"), cursor))

    async def _send_range(self, wanted: Asked) -> None:
        if wanted.as_csv:
            self._is_csv, self.media_type = True, CSV
            self._head = csv_text([CSV_COLUMNS])
        chosen = Range(
            since=wanted.since,
            first=wanted.last if wanted.newest_first else wanted.first,
            last=None if wanted.newest_first else wanted.last,
            newest_first=wanted.newest_first,
            after=wanted.before,
        )
        left = chosen.first or chosen.last
        while left != 0:
            async with self.service.hub.history() as history:
                reading = read_range(history, self._users, wanted.filters, chosen)
                async with aclosing(reading):
                    async for arrivals in reading:
                        left = None if left is None else left - len(arrivals)
                        if await self._is_taken(arrivals):
                            continue
                        if (place := _place_of(arrivals[-1])) is not None:
                            break
                        await self._written()
                    else:
                        break
            await self._written()
            chosen = msgspec.structs.replace(chosen, first=left, last=None, after=place)
        await self._written()
        if self._head:
            await self.write(body(self._head))

    async def _is_taken(self, arrivals: Sequence[Arrival]) -> bool:
        """Write them; False where the client keeps it waiting. Then `_written` is called next."""
        messages = [arrival.message for arrival in arrivals]
        if self._is_csv:
            text = csv_text(map(csv_row, messages))
        else:
            text = b"".join([to_line(message) + b"\n" for message in messages])
        text, self._head = self._head + text, b""
        self._writing = asyncio.create_task(self.write(body(text)))
        done, _ = await asyncio.wait({self._writing}, timeout=PATIENCE)
        if done:
            await self._written()
        return bool(done)

    async def _tell(self, frame: Frame) -> None:
        await self.write(body(as_json(frame) + b"\n"))

    async def _written(self) -> None:
        """All was taken that was written."""
        if self._writing is not None:
            await self._writing

    def error_message(self, text: bytes) -> Message:
        """A line that is no entry."""
        return body(text + b"\n")


def _place_of(arrival: Arrival) -> Place | None:
    """Where to go on after it; None where it has no time."""
    entry = arrival.message
    return (entry.moment, entry.id) if isinstance(entry, Entry) else None
