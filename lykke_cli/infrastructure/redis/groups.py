"""The commands of one member of a consumer group, and what their answers mean.

https://redis.io/docs/latest/commands/xreadgroup/ and those it names. All of them are about one
stream, but for `read`, which needs that the streams are in one slot or in no cluster.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import hiredis
import msgspec

from lykke_cli.application.consuming import Found, StreamEntry
from lykke_cli.infrastructure.redis import stream_layout
from lykke_cli.infrastructure.redis.connection import refusal
from lykke_cli.infrastructure.redis.portion import Portion
from lykke_cli.infrastructure.redis.stream_layout import KEEP, MESSAGE, USER, dead_letter_name
from lykke_cli.infrastructure.redis.wire import Command, Wire

PAGE = 500  # ids at a time, of what is pending


class GroupLost(Exception):
    """The server has no such group, or no such stream."""


class GroupCommands:
    """Of one `consumer` in one `group`."""

    def __init__(self, group: str, consumer: str) -> None:
        self.group = group
        self.consumer = consumer

    def read(self, streams: Sequence[str], count: int, block: int | None = None) -> Command:
        """What nobody was given yet, `count` of each; waits for `block` milliseconds."""
        waits: Command = () if block is None else ("BLOCK", block)
        new = (">",) * len(streams)
        return (*self._reading, "COUNT", count, *waits, "STREAMS", *streams, *new)

    def found_in(self, answer: Any) -> Iterator[tuple[str, Found]]:
        """By stream, of an answer to `read`."""
        for name, entries in checked(answer) or ():
            stream = name.decode()
            yield stream, _found(stream, entries)

    async def create(self, wire: Wire, stream: str, start: str) -> bool:
        """Make the group, and the stream where there is none; False where it is there."""
        [answer] = await wire.ask([("XGROUP", "CREATE", stream, self.group, start, "MKSTREAM")])
        if isinstance(answer, hiredis.ReplyError) and str(answer).startswith("BUSYGROUP"):
            return False
        checked(answer, stream)
        return True

    async def has(self, wire: Wire, stream: str, id: str) -> bool:
        """Whether the stream has this entry."""
        [answer] = await wire.ask([("XRANGE", stream, id, id)])
        return bool(checked(answer))

    async def exists(self, wire: Wire, stream: str) -> bool:
        """Whether the stream has this group."""
        [answer] = await wire.ask([("XINFO", "GROUPS", stream)])
        if isinstance(answer, hiredis.ReplyError) and "no such key" in str(answer):
            return False
        return any(each[b"name"] == self.group.encode() for each in maps(checked(answer)))

    async def recover(self, wire: Wire, stream: str, after: str, portion: Portion) -> Found:
        """What is pending for this consumer, after that id."""
        command = (*self._reading, "COUNT", portion.count, "STREAMS", stream, after)
        for name, found in self.found_in((await wire.ask([command]))[0]):
            portion.came(wire.size, is_full=found.number >= portion.count)
            return await self._counted(wire, name, found)
        return Found()

    async def claim(
        self, wire: Wire, stream: str, start: str, idle: float, portion: Portion
    ) -> tuple[Found, str]:
        """What nobody has renewed for so many seconds, and where to go on."""
        words = ("XAUTOCLAIM", stream, self.group, self.consumer, _milliseconds(idle), start)
        [answer] = await wire.ask([(*words, "COUNT", portion.count)])
        then, entries, *deleted = checked(answer)
        found = _found(stream, entries)
        trimmed = [*found.trimmed, *(id.decode() for id in (deleted[0] if deleted else ()))]
        found = msgspec.structs.replace(found, trimmed=trimmed)
        portion.came(wire.size, is_full=found.number >= portion.count)
        return await self._counted(wire, stream, found), then.decode()

    async def own(self, wire: Wire, stream: str, idle: float) -> list[str]:
        """The ids of what has been pending for this consumer for so many seconds."""
        ids, after = list[str](), "-"
        while True:
            some = await self._pending(wire, stream, after, "+", idle)
            ids += some
            if len(some) < PAGE:
                return ids
            after = f"({ids[-1]}"

    async def renew(self, wire: Wire, stream: str, ids: Sequence[str], idle: float) -> None:
        """Renew these, each only if it is still so old: nobody has taken it over meanwhile."""
        if ids:
            words = ("XCLAIM", stream, self.group, self.consumer, _milliseconds(idle))
            for answer in await wire.ask([(*words, *ids, "JUSTID")]):
                checked(answer)

    async def look(self, wire: Wire, stream: str) -> tuple[str, str | None]:
        """The last id that was given out, and then the lowest that is pending."""
        answers = await wire.ask([("XINFO", "GROUPS", stream), ("XPENDING", stream, self.group)])
        groups, pending = map(checked, answers)
        for each in maps(groups):
            if each[b"name"] == self.group.encode():
                lowest = pending[1]
                return each[b"last-delivered-id"].decode(), lowest and lowest.decode()
        raise GroupLost

    def acknowledge(self, stream: str, ids: Sequence[str]) -> Command:
        return ("XACK", stream, self.group, *ids)

    async def bury(self, wire: Wire, entry: StreamEntry) -> None:
        """Put it into the stream of dead letters, and acknowledge it, both or none."""
        letter = (
            *("id", entry.id, "group", self.group, "deliveries", entry.deliveries),
            *(USER, entry.user_id, MESSAGE, entry.payload),
        )
        name = dead_letter_name(entry.stream)
        *_, outcome = await wire.ask(
            [
                ("MULTI",),
                ("XADD", name, "MAXLEN", "~", KEEP, "*", *letter),
                self.acknowledge(entry.stream, [entry.id]),
                ("EXEC",),
            ]
        )
        for answer in checked(outcome):
            checked(answer)

    async def give_back(self, wire: Wire, stream: str, entries: Sequence[StreamEntry]) -> None:
        """Let anybody claim these at once, as if they had not been given out this time.

        One that another member has taken over is left alone.
        """
        own = [
            ("XPENDING", stream, self.group, entry.id, entry.id, 1, self.consumer)
            for entry in entries
        ]
        words = ("XCLAIM", stream, self.group, self.consumer, 0)
        commands = [
            (*words, entry.id, "TIME", 0, "RETRYCOUNT", entry.deliveries - 1, "JUSTID")
            for entry, rows in zip(entries, map(checked, await wire.ask(own)), strict=True)
            if rows
        ]
        for answer in await wire.ask(commands):
            checked(answer)

    async def leave(self, wire: Wire, stream: str) -> None:
        """Delete the consumer, unless something is pending for it; it may not read meanwhile."""
        if not await self._pending(wire, stream, "-", "+"):
            [answer] = await wire.ask(
                [("XGROUP", "DELCONSUMER", stream, self.group, self.consumer)]
            )
            checked(answer)

    @property
    def _reading(self) -> Command:
        return ("XREADGROUP", "GROUP", self.group, self.consumer)

    async def _counted(self, wire: Wire, stream: str, found: Found) -> Found:
        """With how often each entry was given out."""
        questions = [
            ("XPENDING", stream, self.group, entry.id, entry.id, 1, self.consumer)
            for entry in found.entries
        ]
        answers = map(checked, await wire.ask(questions))
        entries = [
            msgspec.structs.replace(entry, deliveries=rows[0][3] if rows else 1)
            for entry, rows in zip(found.entries, answers, strict=True)
        ]
        return msgspec.structs.replace(found, entries=entries)

    async def _pending(
        self, wire: Wire, stream: str, first: str, last: str, idle: float | None = None
    ) -> list[str]:
        """Some ids of what is pending for this consumer."""
        old: Command = () if idle is None else ("IDLE", _milliseconds(idle))
        [answer] = await wire.ask(
            [("XPENDING", stream, self.group, *old, first, last, PAGE, self.consumer)]
        )
        return [id.decode() for id, *_ in checked(answer)]


def checked(answer: Any, key: str | None = None) -> Any:
    """The answer; raises GroupLost and Refused."""
    if not isinstance(answer, hiredis.ReplyError):
        return answer
    text = str(answer)
    if text.startswith(("NOGROUP", "UNBLOCKED")) or "no such key" in text:
        raise GroupLost(text)
    raise refusal(answer, key)


def maps(answer: Any) -> Iterator[Mapping[bytes, Any]]:
    """What a server tells of several things, by the names of its fields."""
    for each in answer:
        yield dict(zip(each[::2], each[1::2], strict=False))


def _found(stream: str, entries: Sequence[Any]) -> Found:
    """What an answer has of one stream; before Redis 7 None stands for what was trimmed."""
    messages, foreign, trimmed = list[StreamEntry](), list[str](), list[str]()
    for entry in entries:
        if entry is None:
            continue  # claimed, and its id is not told: it is found as pending
        id, fields = entry
        match fields:
            case None:
                trimmed.append(id.decode())
            case [stream_layout.USER, user, stream_layout.MESSAGE, payload]:
                messages.append(StreamEntry(stream, id.decode(), _text(user), payload))
            case _:
                pairs = dict(zip(fields[::2], fields[1::2], strict=False))
                if (payload := pairs.get(MESSAGE)) is None:
                    foreign.append(id.decode())
                else:
                    user = _text(pairs.get(USER, b""))
                    messages.append(StreamEntry(stream, id.decode(), user, payload))
    return Found(messages, foreign, trimmed)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
