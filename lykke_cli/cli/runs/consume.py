"""One run of `lykke consume`: takes entries as a member of a group, and acknowledges them."""

import asyncio
import os
import shutil
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from errno import ENOENT
from functools import cached_property

from lykke_cli.application.batches import live_arrivals
from lykke_cli.application.consuming import StreamEntry
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.group_protocol import GroupConsumerProtocol
from lykke_cli.application.gateways.pubsub_protocol import Deliveries
from lykke_cli.application.messages import Arrival, Entry, UnreadableEntry, to_line
from lykke_cli.application.place import NoPlace
from lykke_cli.bootstrap import make_consumer
from lykke_cli.cli.arguments import options
from lykke_cli.cli.output.clock import length
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.sink import FileSink, Sink, StdoutSink
from lykke_cli.cli.output.standard_streams import OutputClosed, is_read_by_nobody
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runs.child import CannotRun, end_group, start
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.written_entries import WrittenEntry, WrittenIds

BATCH = 1_000  # entries
LAST_WORDS = 2.0  # seconds for what was written to be acknowledged when the run is interrupted


@dataclass
class _Done:
    entries: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Consuming:
    """Entries go to stdout, into a `file`, or each to a `command`."""

    settings: Settings
    channel_type: str
    group: str
    consumer: str | None
    claim_after: float
    max_deliveries: int
    from_now: bool
    count: int | None
    idle: float | None
    filters: Filters
    command: Sequence[str] | None
    file: EntryFile | None
    printing: options.Printing
    _done: _Done = field(default_factory=_Done)

    @cached_property
    def _terminal(self) -> Terminal:
        return options.terminal(self.printing.color)

    @cached_property
    def _reporter(self) -> Reporter:
        return Reporter(
            self._terminal, quiet=self.printing.quiet, with_history=False, zone=self.printing.zone
        )

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            taker = await self._open_taker(stack)
            consumer = make_consumer(
                self.settings,
                self.channel_type,
                group=self.group,
                consumer=self.consumer,
                claim_after=self.claim_after,
                max_deliveries=self.max_deliveries,
                batch=1 if self.command else min(self.count or BATCH, BATCH),
                from_now=self.from_now,
                on_notice=self._reporter.line,
            )
            await stack.enter_async_context(consumer)
            self._reporter.line(
                f"member {consumer.consumer} of the group {self.group}: waiting for entries"
            )
            started = time.monotonic()
            try:
                await taker.begin()
                await self._consume(consumer, taker)
            except OutputClosed:
                self._reporter.silence()  # whoever read us has enough, of this too
                raise
            finally:
                self._tell_end(time.monotonic() - started)

    async def _consume(self, consumer: GroupConsumerProtocol, taker: "_Taker") -> None:
        while entries := await next_entries(consumer, self.idle):
            for some in self._portions(entries):
                await self._take(some, consumer, taker)
                if self._done.entries == self.count:
                    return

    def _portions(self, entries: list[StreamEntry]) -> Iterator[list[StreamEntry]]:
        """As many at a time as are certain to be taken together."""
        while entries:
            left = len(entries) if self.count is None else self.count - self._done.entries
            number = 1 if self.command is not None else left
            yield entries[:number]
            entries = entries[number:]

    async def _take(
        self, entries: Sequence[StreamEntry], consumer: GroupConsumerProtocol, taker: "_Taker"
    ) -> None:
        """Acknowledge what was taken, or is not wanted."""
        wanted = self.filters.select(self._arrivals(entries))
        if wanted:
            await self._reporter.step_aside()
            if not await taker.take(wanted):
                consumer.let_go(*entries)
                self._done.failed += 1
                return
            self._done.entries += len(wanted)
        acknowledging = asyncio.create_task(consumer.ack(*entries))
        try:
            await asyncio.shield(acknowledging)
        except asyncio.CancelledError:
            await asyncio.wait({acknowledging}, timeout=LAST_WORDS)
            acknowledging.cancel()
            raise

    def _arrivals(self, entries: Sequence[StreamEntry]) -> Sequence[Arrival]:
        channels = [f"{self.channel_type}:{entry.user_id}".encode() for entry in entries]
        return live_arrivals(Deliveries(channels, [entry.payload for entry in entries]))

    async def _open_taker(self, stack: AsyncExitStack) -> "_Taker":
        if self.command is not None:
            if shutil.which(self.command[0]) is None:
                raise CannotRun(self.command[0], FileNotFoundError(ENOENT, os.strerror(ENOENT)))
            return _Command(self.command, self._reporter)
        if self.file is not None:
            self.file.tell = self._reporter.line
            stack.callback(self.file.close)
            self.file.open(None)
            return _File(self.file, await self.file.read_back())
        renderer = self.printing.renderer(self._terminal, show_user=True, grep=self.filters.grep)
        sink = StdoutSink(self._terminal, renderer)
        stack.push_async_callback(_close, sink)
        return _Taker(sink)

    def _tell_end(self, seconds: float) -> None:
        self._reporter.clear()
        failed = f", {self._done.failed} failed" if self._done.failed else ""
        self._reporter.line(f"{self._done.entries} taken in {length(seconds)}{failed}")


async def next_entries(consumer: GroupConsumerProtocol, idle: float | None) -> list[StreamEntry]:
    """What comes next; none after `idle` seconds in which something could have come."""
    if idle is None:
        return await consumer.get()
    clock = asyncio.get_running_loop().time
    began, left = clock(), idle
    while left > 0:
        if entries := await consumer.get(left):
            return entries
        since = consumer.reads_since
        left = idle if since is None else idle - (clock() - max(began, since))
    return []


class _Taker:
    """What takes entries: when `take` returns they have left the process."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def begin(self) -> None:
        await self._sink.begin()

    async def take(self, arrivals: Sequence[Arrival]) -> bool:
        """Whether they were taken; raises OutputClosed and OutputFailed."""
        await self._sink.write(arrivals)
        return True


class _File(_Taker):
    """A file, which has each entry once: by the ids that are in it."""

    def __init__(self, file: EntryFile, written: WrittenIds) -> None:
        super().__init__(FileSink(file, NoPlace()))
        self._written = written

    async def take(self, arrivals: Sequence[Arrival]) -> bool:
        fresh, ids = list[Arrival](), dict[str, str]()
        for arrival in arrivals:
            if isinstance(message := arrival.message, Entry | UnreadableEntry):
                if message.id in self._written or message.id in ids:
                    continue
                ids[message.id] = message.occurred_at
            fresh.append(arrival)
        if fresh:
            await self._sink.write(fresh)
            for id, occurred_at in ids.items():
                self._written.add(WrittenEntry(id, occurred_at))
        self._sink.state()  # by then it is on the disk
        return True


class _Command(_Taker):
    """A command that is run for each entry, and reads it."""

    def __init__(self, words: Sequence[str], reporter: Reporter) -> None:
        self._words = words
        self._reporter = reporter

    async def begin(self) -> None:
        pass

    async def take(self, arrivals: Sequence[Arrival]) -> bool:
        [arrival] = arrivals
        process = await start(self._words, stdin=PIPE)
        try:
            await process.communicate(to_line(arrival.message) + b"\n")
        finally:
            if process.returncode is None:
                await end_group(process.pid)
        if process.returncode:
            if is_read_by_nobody(sys.stdout.fileno()):  # its output is ours
                raise OutputClosed
            id = getattr(arrival.message, "id", "without an id")
            self._reporter.line(
                f"{self._words[0]} failed for the entry {id} ({process.returncode}): it comes again"
            )
        return process.returncode == 0


async def _close(sink: Sink) -> None:
    with suppress(OutputClosed):
        await sink.close()
