"""One run of `lykke backfill`: opens what it needs, in order, and closes it all."""

import asyncio
import time
from collections.abc import Sequence, Set
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from lykke_cli.application.backfill import Range, Replayer, catch_up, read_range
from lykke_cli.application.errors import TimedOut
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import HistoryProtocol
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import Arrival, format_time
from lykke_cli.application.place import NoPlace, Place
from lykke_cli.application.statuses import Notice
from lykke_cli.application.tail import TailRequest
from lykke_cli.bootstrap import make_gateway, make_history
from lykke_cli.cli.arguments import options
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.sink import Sink, StdoutSink
from lykke_cli.cli.output.standard_streams import OutputClosed
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runs.keeping import Keeper, open_file
from lykke_cli.cli.runs.silence import probable_mistakes
from lykke_cli.cli.runs.tail import SINCE_UNUSED, place_key
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.files import recent
from lykke_cli.infrastructure.files.cursor_file import CursorFile
from lykke_cli.infrastructure.files.entry_file import EntryFile
from lykke_cli.infrastructure.files.written_entries import WrittenIds

FIRST_USE = timedelta(days=1)
"""What is read when there is neither a stored place nor a range."""
LAST_WRITE = 1.0  # seconds at the end of a run that is interrupted
WRITE_INTERVAL = 0.1  # seconds of publishing after which what was published is written


@dataclass
class _Done:
    """How far a run has come; the progress bar, where there is one, shows it."""

    entries: int = 0
    goes_on: bool = False
    """From a stored place."""
    untold: str | None = None
    """What is told once the database has answered: before that an error may be all there is."""
    bar: Any = None
    task: Any = None

    def count(self, entries: int) -> None:
        self.entries += entries
        if self.bar is not None:
            self.bar.update(self.task, completed=self.entries)


@dataclass(frozen=True, kw_only=True)
class Backfilling:
    """Reads a range as it is; without one, or into a file, goes on from the stored place."""

    settings: Settings
    user_ids: Set[UUID] | None
    """None is every user."""
    filters: Filters
    since: datetime | None
    resume: Checkpoint | None
    """To go on from it, and to leave the stored place as it is."""
    first: int | None
    last: int | None
    replay: bool
    rate: float | None
    file: EntryFile | None
    printing: options.Printing
    _done: _Done = field(default_factory=_Done)

    @property
    def is_range(self) -> bool:
        """Whether it is read as it is, from no stored place."""
        is_given = self.since or self.first or self.last or self.filters.until
        return bool(is_given) and self.file is None and self.resume is None

    @property
    def _start(self) -> str:
        return "last run" if self.resume is None else "cursor"

    @cached_property
    def _terminal(self) -> Terminal:
        return options.terminal(self.printing.color)

    @cached_property
    def _reporter(self) -> Reporter:
        return Reporter(
            self._terminal,
            quiet=self.printing.quiet,
            with_history=True,
            zone=self.printing.zone,
        )

    async def run(self) -> None:
        started = time.monotonic()
        verb = "replayed" if self.replay else "printed"
        try:
            await self._run()
        except asyncio.CancelledError:
            self._reporter.line(f"interrupted: {self._done.entries} {verb}")
            raise
        except LykkeError:
            if self._done.entries:
                self._reporter.line(f"cut off: {self._done.entries} {verb}")
            raise
        finally:
            recent.remember(activity_types=self._reporter.activity_types)
        seconds = time.monotonic() - started
        if not self.printing.quiet:
            async for line in probable_mistakes(
                self.settings, self.user_ids or (), self.filters, printed=self._done.entries
            ):
                self._reporter.line(line)
        rate = f", {self._done.entries / seconds:,.0f} a second" if seconds >= 1 else ""
        is_nothing_new = self._done.goes_on and not self._done.entries
        nothing = f": nothing new since the {self._start}" if is_nothing_new else ""
        self._reporter.line(f"{self._done.entries} {verb} in {seconds:.1f} s{rate}{nothing}")

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            history = await stack.enter_async_context(make_history(self.settings))
            replayer = None
            if self.replay:
                gateway = make_gateway(self.settings)
                stack.push_async_callback(gateway.close)
                replayer = Replayer(gateway, options.AUDIT_LOG, self.rate)
            if self.is_range:
                await self._read_range(stack, history, replayer)
            else:
                await self._catch_up(stack, history, replayer)

    async def _read_range(
        self, stack: AsyncExitStack, history: HistoryProtocol, replayer: Replayer | None
    ) -> None:
        sink = self._stdout(replayer)
        keeper = Keeper(NoPlace(), sink, self._reporter.line)
        wanted = Range(since=self.since, first=self.first, last=self.last)
        await self._show_progress(stack, history, sink)
        try:
            if isinstance(sink, StdoutSink) and replayer is None and self._takes_lines(sink):
                await self._copy_lines(history, sink)
                return
            batches = read_range(history, self.user_ids, self.filters, wanted)
            async with aclosing(batches):
                async for arrivals in batches:
                    await self._emit(arrivals, sink, replayer, keeper)
            await sink.begin()  # though nothing came
        finally:
            await _close(sink)

    def _takes_lines(self, sink: StdoutSink) -> bool:
        """True when the database's own NDJSON will do."""
        is_cut = self.first is not None or self.last is not None
        return sink.takes_lines and not is_cut and self.filters.is_all_sql

    async def _copy_lines(self, history: HistoryProtocol, sink: StdoutSink) -> None:
        selection = self.filters.selection(self.user_ids)
        lines = history.lines(selection, since=self.since, until=self.filters.until)
        async with aclosing(lines) as blocks:
            async for block in blocks:
                await sink.write_lines(block)
                self._done.count(block.count(b"\n"))

    async def _catch_up(
        self, stack: AsyncExitStack, history: HistoryProtocol, replayer: Replayer | None
    ) -> None:
        place = NoPlace() if self.resume else await self._stored_place(stack, history)
        checkpoint = self.resume or place.load()
        since = self.since
        if checkpoint is None and since is None:
            since = datetime.now(UTC) - FIRST_USE
            self._done.untold = (
                "no place was stored yet: reading the last 24 hours, from "
                f"{format_time(since)} (--since sets another start)"
            )
        self._done.goes_on = checkpoint is not None
        if checkpoint is not None and since is not None:
            self._reporter.line(SINCE_UNUSED)
        sink, tell = self._stdout(replayer), self._reporter.line
        written: WrittenIds | None = None
        if self.file is not None:
            sink, checkpoint, written = await open_file(self.file, place, checkpoint, tell)
        await self._show_progress(stack, None, sink)
        keeper = Keeper(place, sink, tell, needed=True, written=written)
        try:
            async with keeper:
                events = catch_up(
                    history, self.user_ids, self.filters, resume=checkpoint, since=since
                )
                async with aclosing(events):
                    async for event in events:
                        await self._carry_out(event, sink, replayer, keeper)
                self._tell_first_use()
                keeper.caught_up()
                await sink.begin()
        finally:
            await _close(sink)

    async def _stored_place(self, stack: AsyncExitStack, history: HistoryProtocol) -> Place:
        request = TailRequest(user_ids=self.user_ids, filters=self.filters)
        key = place_key(await history.identify(), request, self.file)
        return Place(stack.enter_context(CursorFile(key, notice=self._reporter.line)))

    async def _carry_out(
        self,
        event: Print | Save | Notice,
        sink: Sink,
        replayer: Replayer | None,
        keeper: Keeper,
    ) -> None:
        match event:
            case Print(arrivals):
                self._tell_first_use()
                await self._emit(keeper.unwritten(arrivals), sink, replayer, keeper)
            case Save(reached):
                keeper.reached(reached)
            case _:
                self._reporter.happened(event)

    def _tell_first_use(self) -> None:
        if self._done.untold is not None:
            self._reporter.line(self._done.untold)
            self._done.untold = None

    def _stdout(self, replayer: Replayer | None) -> Sink:
        """What is replayed is not printed too, unless an output was asked for."""
        printing = self.printing
        if replayer is not None and printing.output is None and printing.template is None:
            return Sink()
        renderer = printing.renderer(
            self._terminal,
            show_user=self.user_ids is None or len(self.user_ids) > 1,
            grep=self.filters.grep,
        )
        return StdoutSink(self._terminal, renderer)

    async def _emit(
        self,
        arrivals: Sequence[Arrival],
        sink: Sink,
        replayer: Replayer | None,
        keeper: Keeper,
    ) -> None:
        if replayer is None:
            await self._write(arrivals, sink, keeper)
            self._done.count(len(arrivals))
            return
        # An entry is published, then written, then noted in the place, the last two as one step:
        # whatever ends the run in between, it is in the output once and was published at least
        # once. What was published and not written yet, the next run publishes again.
        published: list[Arrival] = []
        written_at = time.monotonic()
        try:
            async with aclosing(replayer.publish(arrivals)) as groups:
                async for some in groups:
                    published += some
                    self._done.count(len(some))  # a slow replay shows its progress
                    if time.monotonic() - written_at >= WRITE_INTERVAL:
                        batch, published, written_at = published, [], time.monotonic()
                        await self._write(batch, sink, keeper)
        except asyncio.CancelledError:
            with suppress(TimeoutError):  # a reader that takes nothing does not keep us
                async with asyncio.timeout(LAST_WRITE):
                    await self._write(published, sink, keeper)
            raise
        except BaseException:
            await self._write(published, sink, keeper)
            raise
        await self._write(published, sink, keeper)

    async def _write(self, arrivals: Sequence[Arrival], sink: Sink, keeper: Keeper) -> None:
        if not arrivals:
            return
        await keeper.write(arrivals)
        self._reporter.meet(arrivals)

    async def _show_progress(
        self, stack: AsyncExitStack, history: HistoryProtocol | None, sink: Sink
    ) -> None:
        """Show a bar where the terminal may be drawn on and the entries do not go there."""
        to_screen = isinstance(sink, StdoutSink) and self._terminal.stdout_is_tty
        if self.printing.quiet or to_screen or not self._terminal.may_draw:
            return
        from lykke_cli.cli.output.progress import make_progress

        total = None
        if history is not None and self.filters.is_all_sql:
            with suppress(TimedOut):  # then it is not known how many there are
                total = await history.count(
                    self.filters.selection(self.user_ids),
                    since=self.since,
                    until=self.filters.until,
                )
                total = min(total, self.first or total, self.last or total)
        self._done.bar = stack.enter_context(make_progress(self._terminal))
        self._done.task = self._done.bar.add_task("entries", total=total)


async def _close(sink: Sink) -> None:
    with suppress(OutputClosed):
        await sink.close()
