"""Carrying out what a tail says: print, remember the place, acknowledge, report."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.errors import ExpectationNotMet, ServerUnavailable
from lykke_cli.application.gateways.pubsub_protocol import Kept, PubSubGatewayProtocol
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.messages import Arrival, Entry, OtherMessage, acknowledgment
from lykke_cli.application.statuses import Connected, HistoryAway, HistoryRead
from lykke_cli.application.tail import Event
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.scene import Tick
from lykke_cli.cli.output.sink import Sink
from lykke_cli.cli.output.standard_streams import OutputClosed
from lykke_cli.cli.runs.keeping import Keeper

if TYPE_CHECKING:
    from lykke_cli.cli.runs.desk import Desk


class TailProtocol(Protocol):
    """What follows users without a gap and a duplicate, however it does so."""

    @property
    def has_history(self) -> bool:
        """Whether gaps are filled, and not only announced."""
        ...

    def events(self) -> AsyncGenerator[Event]:
        """What to print and what happened, for ever, to be carried out in order.

        A Save says that what was printed before it may be recorded as done, once it has left the
        process.
        """
        ...


class Follower:
    """Writes what `tail` yields to `sink`, for ever, or until one of these ends it.

    `count` messages were written; for `idle` seconds none was, though one would have been; or,
    unless it `follows`, the history was. Then `when_read` is run beside it, once. At a terminal the
    person may ask for something by a key, such as the end.
    """

    def __init__(
        self,
        tail: TailProtocol,
        sink: Sink,
        reporter: Reporter,
        keeper: Keeper,
        *,
        count: int | None = None,
        idle: float | None = None,
        follows: bool = True,
        when_read: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._tail = tail
        self._sink = sink
        self._reporter = reporter
        self._keeper = keeper
        self._left = count
        self._acknowledger: Acknowledger | None = None
        self._idle = idle
        self._silence = asyncio.timeout(None)
        self._is_caught_up = False  # with what came while nothing could come live
        self._follows = follows
        self._has_read = False
        self._when_read = when_read
        self._explaining: asyncio.Task[None] | None = None
        self._desk = _desk(reporter, sink)

    def acknowledge_through(self, gateway: PubSubGatewayProtocol) -> None:
        """Publish an acknowledgment for every entry that is printed, through `gateway`."""
        self._acknowledger = Acknowledger(gateway, self._reporter)

    async def run(self, timeout: float | None = None) -> None:
        """Follow, for `timeout` seconds; raises ExpectationNotMet if a count was not reached."""
        try:
            async with self._keeper, asyncio.timeout(timeout), self._silence:
                await self._follow()
        except TimeoutError:
            self._require_count()
        finally:
            if self._explaining is not None:
                self._explaining.cancel()
                await asyncio.gather(self._explaining, return_exceptions=True)
            await self._finish()

    async def _follow(self) -> None:
        async with aclosing(self._events()) as events:
            while True:
                try:
                    event = await anext(events, None)
                except asyncio.CancelledError:
                    with suppress(OutputClosed):
                        await self._carry_out_all(self._reporter.rest())
                    raise
                steps = self._reporter.rest() if event is None else self._reporter.heard(event)
                if await self._carry_out_all(steps) or event is None:
                    return
                self._count_silence()
                self._reporter.draw()

    async def _carry_out_all(self, steps: Iterator[Event]) -> bool:
        """Each in its turn, up to one that ends the run: then True.

        None follows it, nor one that is cancelled: a Save would cover what was not printed.
        """
        for step in steps:
            await self._carry_out(step)
            if self._left == 0:
                return True
            if self._has_read and not self._follows:
                if self._explaining is not None:
                    await self._explaining
                self._require_count()
                return True
        return False

    def _require_count(self) -> None:
        if self._left:
            raise ExpectationNotMet(
                f"Only {self._reporter.entries} came, {self._left} more were waited for."
            ) from None

    def _events(self) -> AsyncGenerator[Event | Tick]:
        events = self._tail.events()
        return events if self._desk is None else self._desk.attend(events)

    async def _carry_out(self, event: Event) -> None:
        match event:
            case Print(arrivals):
                await self._print(arrivals)
            case Save(checkpoint):
                self._keeper.reached(checkpoint)
            case HistoryRead(goes_on=goes_on):
                self._keeper.caught_up()
                self._is_caught_up = not goes_on
                self._wait_for_more()
            case Connected(gap=gap):
                await self._reporter.step_aside()
                await self._sink.begin()
                if gap is not None and gap.kept is Kept.SOME:
                    await self._keeper.compare()
                self._is_caught_up = not self._tail.has_history
                if self._is_caught_up:
                    self._wait_for_more()
            case HistoryAway():
                self._is_caught_up = False

    def _wait_for_more(self) -> None:
        """What there was is printed."""
        if not self._has_read:
            self._has_read = True
            if self._when_read is not None:
                self._explaining = asyncio.create_task(self._when_read())

    def _count_silence(self, *, writing: bool = False) -> None:
        """From now on, or as before; but only while what comes is printed at once."""
        if self._idle is None or self._silence.expired():
            return
        if writing or not (self._is_caught_up and self._reporter.is_live):
            self._silence.reschedule(None)
        elif self._silence.when() is None:
            self._silence.reschedule(asyncio.get_running_loop().time() + self._idle)

    async def _print(self, arrivals: Sequence[Arrival]) -> None:
        if self._acknowledger is not None:
            arrivals = self._acknowledger.without_own(arrivals)
        arrivals = self._keeper.unwritten(arrivals)
        batch = arrivals if self._left is None else arrivals[: self._left]
        if not batch:
            return
        self._count_silence(writing=True)
        await self._reporter.step_aside()
        try:
            await self._keeper.write(batch)
        except OutputClosed:
            self._reporter.silence()  # whoever read us has enough, of this too
            raise
        self._reporter.count(batch)
        if self._desk is not None:
            self._desk.printed(batch)
        if self._left is not None:
            self._left -= len(batch)
        if self._acknowledger is not None:
            await self._acknowledger.answer(batch)

    async def _finish(self) -> None:
        self._reporter.clear()
        with suppress(OutputClosed):
            await self._sink.close()
        self._reporter.summary()


def _desk(reporter: Reporter, sink: Sink) -> "Desk | None":
    """Where there is a terminal to sit at; who has none does not import it."""
    if not reporter.draws:
        return None
    from lykke_cli.cli.runs.desk import Desk

    return Desk(reporter, sink)


class Acknowledger:
    """Answers entries on their user's channel, of the type they came on, and knows its own answers
    when they come back."""

    def __init__(self, gateway: PubSubGatewayProtocol, reporter: Reporter) -> None:
        self._gateway = gateway
        self._reporter = reporter
        self._name = uuid.uuid4().hex
        self._failing = False

    def without_own(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        mark = self._name.encode()
        return [
            arrival
            for arrival in arrivals
            if not (isinstance(arrival.message, OtherMessage) and mark in arrival.message.raw)
        ]

    async def answer(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            if not isinstance(arrival.message, Entry):
                continue
            entry = arrival.message
            channel_type = arrival.channel.rpartition(":")[0] or AUDIT_LOG  # from history
            message = acknowledgment(entry.id, datetime.now(UTC)) | {"consumer": self._name}
            try:
                await self._gateway.publish_to_user_channel(
                    uuid.UUID(entry.user_id), channel_type, message
                )
                self._failing = False
            except ServerUnavailable as error:
                if not self._failing:
                    self._reporter.line(f"an acknowledgment was not sent: {error}")
                self._failing = True
                return
