"""`/history/{user_id}`: what was committed, a line for each entry, however many there are."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from lykke_cli.application.backfill import Range, catch_up, read_range
from lykke_cli.application.gateways.history_protocol import HistoryProtocol
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import Arrival, to_line
from lykke_cli.web.frames import Message
from lykke_cli.web.queries import HISTORY, Asked, asked
from lykke_cli.web.streaming import Stream, body

BLOCK = 64 << 10  # bytes that are sent together; a single entry may be larger


class HistoryStream(Stream):
    """One request."""

    kind = "history"
    media_type = b"application/x-ndjson"

    async def work(self) -> None:
        """Read and write, a chunk at a time; the connection to the database is only lent."""
        wanted = asked(self.connection.scope["query_string"], HISTORY)
        resume = None
        if wanted.cursor is not None:
            resume = self.service.cursors.open(self.user_id, wanted.cursor)
        async with self.service.hub.history() as history:
            if resume is not None:
                await self._catch_up(history, wanted, resume)
                return
            async with aclosing(self._blocks(history, wanted)) as blocks:
                async for block in blocks:
                    await self.write(body(block))

    async def _catch_up(self, history: HistoryProtocol, wanted: Asked, resume: Checkpoint) -> None:
        """What was committed since the cursor, and the one from which to go on."""
        changes = catch_up(history, {self.user_id}, wanted.filters, resume=resume, since=None)
        checkpoint = resume
        async with aclosing(changes):
            async for event in changes:
                match event:
                    case Print(arrivals):
                        for block in _blocks(arrivals):
                            await self.write(body(block))
                    case Save():
                        checkpoint = event.checkpoint
        cursor = self.service.frames.cursor(self.user_id, checkpoint) or ""
        last = b'{"type":"caught_up","cursor":"%b"}\n' % cursor.encode("ascii")
        await self.write(body(last))

    async def _blocks(self, history: HistoryProtocol, wanted: Asked) -> AsyncGenerator[bytes]:
        filters = wanted.filters
        if filters.is_all_sql and wanted.first is None and wanted.last is None:
            lines = history.lines(
                filters.selection({self.user_id}), since=wanted.since, until=filters.until
            )
            async with aclosing(lines):
                async for block in lines:
                    yield block
            return
        chosen = Range(since=wanted.since, first=wanted.first, last=wanted.last)
        chunks = read_range(history, {self.user_id}, filters, chosen)
        async with aclosing(chunks):
            async for arrivals in chunks:
                for block in _blocks(arrivals):
                    yield block

    def error_message(self, text: bytes) -> Message:
        """A line that is no entry."""
        return body(text + b"\n")


def _blocks(arrivals: Sequence[Arrival]) -> list[bytes]:
    """Lines of the arrivals, joined to blocks of a bounded size."""
    blocks, lines, size = [], [], 0
    for arrival in arrivals:
        line = to_line(arrival.message)
        lines.append(line)
        size += len(line)
        if size >= BLOCK:
            blocks.append(b"\n".join([*lines, b""]))
            lines, size = [], 0
    if lines:
        blocks.append(b"\n".join([*lines, b""]))
    return blocks
