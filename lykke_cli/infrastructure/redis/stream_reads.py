"""What a reader of streams asks of a server that has some of them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import hiredis

from lykke_cli.application.gateways.pubsub_protocol import Position
from lykke_cli.application.going_on import Starts, starts
from lykke_cli.application.stream_ids import NO_ID, StreamId
from lykke_cli.infrastructure.redis.portion import Portion
from lykke_cli.infrastructure.redis.stream_layout import MESSAGE, USER
from lykke_cli.infrastructure.redis.wire import Wire, refused

BLOCK = 1.0  # seconds for which the server waits for entries
POLL = 0.02  # seconds between two looks where it cannot wait


async def find_starts(wire: Wire, names: Sequence[str], after: Position | None) -> Starts:
    """Behind `after`, as far as that is there, or without it behind the last entries.

    Raises Refused also where what `read` asks would be.
    """
    up_to = dict.fromkeys(names) if after is None else {n: after.ids.get(n, NO_ID) for n in names}
    newest = await _newest(wire, up_to)
    refused(await wire.ask([("XREAD", "STREAMS", names[0], "$"), ("XRANGE", names[0], 1, 1)]))
    if after is None:
        return Starts(newest)
    empty = [name for name in names if newest[name] == NO_ID]
    return starts(after, newest, await _trimmed(wire, empty))


async def read(
    wire: Wire, positions: dict[str, StreamId], portion: Portion, *, in_cluster: bool
) -> Sequence[tuple[str, Sequence[Any]]]:
    """The next entries of each stream, after a while perhaps of none.

    A cluster refuses a command about streams in several slots: there each is asked by itself, again
    and again. Raises ConnectionError where entries before the next ones are gone.
    """
    names, ids, count = list(positions), list(map(str, positions.values())), portion.count
    if in_cluster:
        each = zip(names, ids, strict=True)
        answers = await wire.ask([("XREAD", "COUNT", count, "STREAMS", *one) for one in each])
        if not any(answers):
            await asyncio.sleep(POLL)
    else:
        options = ("COUNT", count, "BLOCK", int(BLOCK * 1000))
        answers = await wire.ask([("XREAD", *options, "STREAMS", *names, *ids)])
    refused(answers)
    found = [(name.decode(), entries) for answer in answers for name, entries in answer or ()]
    portion.came(wire.size, is_full=any(len(entries) >= count for _, entries in found))
    begun = [name for name, _ in found if positions[name] != NO_ID]
    last_read = [(name, str(positions[name])) for name in begun]
    there = await wire.ask([("XRANGE", name, id, id) for name, id in last_read])
    refused(there)
    for name, entry in zip(begun, there, strict=True):
        if not entry:  # what came next may be gone, too
            raise ConnectionError(f"entries of {name} were removed before they were read")
    for name, entries in found:
        positions[name] = StreamId.parse(entries[-1][0])
    return found


async def check_ends(wire: Wire, positions: Mapping[str, StreamId]) -> None:
    """Raises ConnectionError where a stream ends before its position."""
    for name, end in (await _newest(wire, dict.fromkeys(positions))).items():
        if end < positions[name]:
            raise ConnectionError(f"{name} was deleted, or has lost its last entries")


def message_of(fields: Any) -> tuple[bytes | None, bytes]:
    """The user and the message of an entry, which may be anybody's; None where it is not ours."""
    if not isinstance(fields, list):
        return None, b""
    values = dict(zip(fields[::2], fields[1::2], strict=False))
    return values.get(USER), values.get(MESSAGE, b"")


async def _newest(wire: Wire, up_to: Mapping[str, StreamId | None]) -> dict[str, StreamId]:
    """The id of the last entry in each stream up to there, or at all; NO_ID where there is none."""
    answers = await wire.ask(
        [("XREVRANGE", name, str(id or "+"), "-", "COUNT", 1) for name, id in up_to.items()]
    )
    for name, answer in zip(up_to, answers, strict=True):
        refused([answer], name)
    return {
        name: StreamId.parse(newest[0][0]) if newest else NO_ID
        for name, newest in zip(up_to, answers, strict=True)
    }


async def _trimmed(wire: Wire, names: Sequence[str]) -> set[str]:
    """Those of which entries were removed, as far as the server counts them (from Redis 7 on)."""
    trimmed = set()
    answers = await wire.ask([("XINFO", "STREAM", name) for name in names])
    for name, answer in zip(names, answers, strict=True):
        if not isinstance(answer, hiredis.ReplyError):  # there is none, or we may not ask
            about = dict(zip(answer[::2], answer[1::2], strict=True))
            if about.get(b"entries-added", 0) > about[b"length"]:
                trimmed.add(name)
    return trimmed
