"""Events reach whoever attends to them, in order, and no more of them wait than may."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager

import pytest

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import Arrival, decode
from lykke_cli.application.statuses import HistoryRead, Notice
from lykke_cli.application.tail import Event
from lykke_cli.cli.output.keys import Command, Key
from lykke_cli.cli.output.scene import Tick
from lykke_cli.cli.runs import attended as module
from lykke_cli.cli.runs.attended import Attended
from tests.builders import entity, wire

ROW = Arrival(decode(wire(entity())), "live")
Stream = AsyncGenerator[Event | Command | Tick]


class Source:
    """Events from a test; it knows how many were asked for, and whether it was closed."""

    def __init__(self, events: Iterable[Event | Exception], *, ends: bool = False) -> None:
        self.events = list(events)
        self.given = 0
        self.ends = ends
        self.is_closed = False

    async def stream(self) -> AsyncGenerator[Event]:
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                self.given += 1
                yield event
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.is_closed = True


@asynccontextmanager
async def attending(attended: Attended, source: Source) -> AsyncIterator[Stream]:
    async with asyncio.timeout(20), aclosing(attended.of(source.stream())) as stream:
        yield stream


async def take(stream: Stream, number: int) -> list[object]:
    """So many, ticks apart."""
    taken: list[object] = []
    while len(taken) < number:
        one = await anext(stream)
        if not isinstance(one, Tick):
            taken.append(one)
    return taken


async def until_idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_events_come_in_order_and_what_is_asked_for_before_them() -> None:
    attended, source = Attended(), Source([Notice("1"), Notice("2")])
    async with attending(attended, source) as stream:
        assert await take(stream, 1) == [Notice("1")]
        attended.ask([Key.MARK])
        assert await take(stream, 2) == [Key.MARK, Notice("2")]


async def test_time_passes_though_nothing_happens() -> None:
    async with attending(Attended(), Source([])) as stream:
        assert await anext(stream) == Tick()


async def test_in_a_pause_keys_come_and_rows_wait_with_all_that_is_after_them() -> None:
    attended, source = Attended(), Source([Notice("before"), Print([ROW] * 2), Notice("after")])
    attended.is_paused = True
    async with attending(attended, source) as stream:
        assert await take(stream, 1) == source.events[:1]
        attended.ask([Key.HELP])
        assert await take(stream, 1) == [Key.HELP]
        await until_idle()
        assert (attended.rows, attended.is_full) == (2, False)
        attended.is_paused = False
        assert await take(stream, 2) == source.events[1:]
        assert attended.rows == 0


@pytest.mark.parametrize("most", ["MOST_ROWS", "MOST_BYTES"])
async def test_a_pause_holds_so_much_and_then_asks_for_no_more(
    most: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, most, 3)
    attended, source = Attended(), Source([Print([ROW] * 4)] * 3)
    attended.is_paused = True
    async with attending(attended, source) as stream:
        await anext(stream)
        await until_idle()
        assert (source.given, attended.is_full) == (1, True)
        attended.is_paused = False
        assert await take(stream, 3) == source.events


async def test_other_events_of_a_pause_do_not_pile_up_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", 3)
    attended, source = Attended(), Source([Print([ROW]), *[Notice("trying")] * 9])
    attended.is_paused = True
    async with attending(attended, source) as stream:
        await anext(stream)
        await until_idle()
        assert (source.given, attended.is_full) == (4, True)
        attended.is_paused = False
        assert await take(stream, 10) == source.events


async def test_of_the_places_between_two_rows_the_last_is_kept() -> None:
    row, read = Print([ROW]), HistoryRead(0, after_failure=False)
    saves = [Save(Checkpoint(Cursor({"n": n}), {}, None)) for n in range(4)]
    events: list[Event] = [row, saves[0], saves[1], read, saves[2], row, saves[3]]
    attended, source = Attended(), Source(events)
    async with attending(attended, source) as stream:
        assert await take(stream, 5) == [row, read, saves[2], row, saves[3]]


async def test_an_error_comes_after_what_was_before_it_also_in_a_pause() -> None:
    row = Print([ROW])
    attended, source = Attended(), Source([row, ValueError("broken")])
    attended.is_paused = True
    async with attending(attended, source) as stream:
        assert await take(stream, 1) == [row]
        with pytest.raises(ValueError, match="broken"):
            await take(stream, 1)


async def test_it_ends_with_the_events() -> None:
    async with attending(Attended(), Source([Notice("1")], ends=True)) as stream:
        assert [one async for one in stream if not isinstance(one, Tick)] == [Notice("1")]


async def test_when_it_is_given_up_so_are_the_events() -> None:
    source = Source([Notice("1")])
    async with attending(Attended(), source) as stream:
        await take(stream, 1)
        assert not source.is_closed
    assert source.is_closed
