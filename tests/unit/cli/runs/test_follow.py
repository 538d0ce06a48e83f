"""When a run ends by itself, by a clock of the test's own."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from lykke_cli.application.errors import ExpectationNotMet
from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.gateways.pubsub_protocol import Gap, Kept
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import Arrival, Entry, decode
from lykke_cli.application.place import NoPlace
from lykke_cli.application.statuses import Connected, Disconnected, HistoryAway, HistoryRead
from lykke_cli.application.tail import Event, Tail
from lykke_cli.cli.output.reporter import Reporter
from lykke_cli.cli.output.sink import Sink
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runs.follow import Follower
from lykke_cli.cli.runs.keeping import Keeper
from lykke_cli.infrastructure.files.written_entries import WrittenEntry, WrittenIds
from tests.builders import entity, wire

IDLE = 60.0  # seconds
LINE = Print([Arrival(decode(wire(entity())), "live")])
CONNECTED, READ = Connected("auditlog:x", None), HistoryRead(0, after_failure=False)
LOST_AT = datetime(2026, 11, 24, 15, 6, 19, tzinfo=UTC)
LOST = Disconnected("Redis is gone.", LOST_AT)
AGAIN = Connected("auditlog:x", Gap(LOST_AT, LOST_AT))
AWAY, GOES_ON = HistoryAway("gone"), HistoryRead(0, after_failure=False, goes_on=True)
RECOVERED = Print([Arrival(decode(wire(entity())), "recovered") for _ in range(3)])
SAVE = Save(Checkpoint(Cursor({}), {}, None))
Step = Event | float | Callable[[], None]


class Clock:
    """The loop's clock, put forward by hand."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._time: Callable[[], float] = loop.time
        self._ahead = 0.0
        loop.time = lambda: self._time() + self._ahead  # type: ignore[method-assign]

    async def passes(self, seconds: float) -> None:
        self._ahead += seconds
        for _ in range(3):  # for whatever is due, and what that wakes
            await asyncio.sleep(0)


class Events:
    """A tail that yields these, lets seconds pass where a number stands, and then waits.

    A function is called.
    """

    def __init__(self, steps: Sequence[Step], *, has_history: bool) -> None:
        self._steps = steps
        self.has_history = has_history

    async def events(self) -> AsyncGenerator[Event]:
        clock = Clock()
        for step in self._steps:
            if isinstance(step, float):
                await clock.passes(step)
            elif callable(step):
                step()
            else:
                yield step
        await asyncio.Event().wait()


class Count(Sink):
    """Counts what was written; each write takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.written = 0
        self.ids: WrittenIds | None = None
        self.last: Arrival | None = None

    async def write(self, arrivals: Sequence[Arrival]) -> None:
        await Clock().passes(self._seconds)
        self.written += len(arrivals)
        self.last = arrivals[-1]

    async def read_back(self) -> WrittenIds | None:
        return self.ids


class Saves(NoPlace):
    """Counts how often the place was reached."""

    number = 0

    def reached(self, checkpoint: Checkpoint) -> None:
        self.number += 1


class Screen(io.BytesIO):
    def isatty(self) -> bool:
        return True


async def printed(
    steps: Sequence[Step],
    *,
    has_history: bool = True,
    writing: float = 0.0,
    place: NoPlace | None = None,
    reporter: Reporter | None = None,
    at_terminal: bool = False,
    timeout: float | None = None,
    **ends: Any,
) -> int:
    """How many messages are printed before the run ends."""
    sink = Count(writing)
    stream = Screen if at_terminal else io.BytesIO
    terminal = Terminal(stream(), stream())
    follower = Follower(
        cast(Tail, Events(steps, has_history=has_history)),
        sink,
        reporter or Reporter(terminal, quiet=not at_terminal, with_history=has_history),
        Keeper(place or NoPlace(), sink, lambda _: None),
        **ends,
    )
    await follower.run(timeout)
    return sink.written


MOST, TOO_LONG = 0.9 * IDLE, 1.1 * IDLE


@pytest.mark.parametrize(
    ("steps", "number"),
    [
        ([CONNECTED, READ, TOO_LONG, LINE], 0),
        ([CONNECTED, READ, MOST, LINE, MOST, LINE, MOST, LINE, TOO_LONG, LINE], 3),
        # A reconcile is nothing that came.
        ([CONNECTED, READ, MOST, READ, MOST, LINE], 0),
        # Nor is there silence as long as nothing can come, or what was missed has not been read.
        ([CONNECTED, READ, LOST, TOO_LONG, READ, TOO_LONG, LINE, AGAIN, READ, TOO_LONG, LINE], 1),
        ([CONNECTED, READ, LOST, AGAIN, GOES_ON, TOO_LONG, LINE, READ, TOO_LONG, LINE], 1),
        ([CONNECTED, READ, AWAY, TOO_LONG, LINE, TOO_LONG, LINE, READ, TOO_LONG, LINE], 2),
        # As long as history is read nothing is silent.
        ([CONNECTED, TOO_LONG, LINE, TOO_LONG, LINE, READ, MOST, LINE, TOO_LONG, LINE], 3),
    ],
)
async def test_silence_ends_it_counted_from_what_was_printed_last(
    steps: list[Step], number: int
) -> None:
    assert await printed(steps, idle=IDLE) == number


async def test_without_a_history_silence_counts_from_the_subscription_on() -> None:
    steps: list[Step] = [CONNECTED, MOST, LINE, LOST, TOO_LONG, AGAIN, MOST, LINE, TOO_LONG, LINE]
    assert await printed(steps, has_history=False, idle=IDLE) == 2


async def test_a_pause_is_no_silence() -> None:
    reporter = Reporter(Terminal(io.BytesIO(), io.BytesIO()), quiet=True, with_history=True)

    def pause() -> None:
        reporter.paused = "paused"

    def go_on() -> None:
        reporter.paused = None

    steps: list[Step] = [CONNECTED, READ, pause, READ, TOO_LONG, LINE]
    steps += [pause, TOO_LONG, go_on, READ, MOST, LINE, TOO_LONG, LINE]
    assert await printed(steps, reporter=reporter, idle=IDLE) == 2


async def test_a_slow_output_is_no_silence() -> None:
    steps: list[Step] = [CONNECTED, READ, LINE, LINE, TOO_LONG, LINE]
    assert await printed(steps, writing=TOO_LONG, idle=IDLE) == 2


@pytest.mark.parametrize("ends", [{"idle": IDLE}, {"follows": False}])
async def test_a_count_that_is_not_reached_is_not_met(ends: dict[str, Any]) -> None:
    steps: list[Step] = [CONNECTED, LINE, READ, TOO_LONG, LINE]
    with pytest.raises(ExpectationNotMet, match="Only 1 came, 1 more were waited for"):
        await printed(steps, count=2, **ends)
    assert await printed(steps, count=1, **ends) == 1


async def test_it_ends_with_history_once_its_mistakes_were_told() -> None:
    told: list[str] = []

    async def tell() -> None:
        for _ in range(9):
            await asyncio.sleep(0)
        told.append("a mistake")

    steps: list[Step] = [CONNECTED, LINE, LINE, READ, LINE]
    assert await printed(steps, follows=False, when_read=tell) == 2
    assert told == ["a mistake"]


@pytest.mark.parametrize(("count", "number", "saves"), [(None, 3, 1), (2, 2, 0)])
async def test_a_place_covers_none_of_the_held_rows_that_a_count_left_out(
    count: int | None, number: int, saves: int
) -> None:
    place = Saves()
    steps: list[Step] = [CONNECTED, READ, LOST, RECOVERED, SAVE, TOO_LONG]
    ends: dict[str, Any] = {"count": count, "timeout": IDLE}
    assert await printed(steps, at_terminal=True, place=place, **ends) == number
    assert place.number == saves


async def test_a_place_covers_none_of_the_rows_that_were_being_written_when_it_ended() -> None:
    place = Saves()
    steps: list[Step] = [CONNECTED, READ, LOST, AGAIN, RECOVERED, SAVE, LINE, SAVE, READ]
    ends: dict[str, Any] = {"writing": TOO_LONG, "timeout": IDLE}
    assert await printed(steps, at_terminal=True, place=place, **ends) == 0
    assert place.number == 0


@pytest.mark.parametrize(("kept", "times"), [(Kept.SOME, 2), (Kept.ALL, 3)])
async def test_what_may_come_again_is_compared_with_what_was_written(
    kept: Kept, times: int
) -> None:
    other, sink = Print([Arrival(decode(wire(entity())), "live")]), Count(0)
    [arrival] = LINE.arrivals
    assert isinstance(arrival.message, Entry)
    sink.ids = WrittenIds()
    sink.ids.add(WrittenEntry(arrival.message.id, arrival.message.occurred_at))
    again = Connected("auditlog:x", Gap(LOST_AT, LOST_AT, kept))
    steps: list[Step] = [CONNECTED, LINE, LOST, again, LINE, other]
    terminal = Terminal(io.BytesIO(), io.BytesIO())
    await Follower(
        cast(Tail, Events(steps, has_history=False)),
        sink,
        Reporter(terminal, quiet=True, with_history=False),
        Keeper(NoPlace(), sink, lambda _: None),
        count=times,
    ).run(IDLE)
    assert sink.written == times
    assert sink.last is other.arrivals[0]
