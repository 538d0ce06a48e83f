"""History as the promised NDJSON, written by PostgreSQL itself.

Several connections share one snapshot. Each copies one range of time after the other, of a few
thousand rows; the lines come out in order all the same. What is read ahead is bounded. COPY takes
no parameters. So the statements are constants that read settings of their transaction.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Set
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from lykke_cli.application.ending import end
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.messages import format_time
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.postgresql.selection import (
    REST_AS_SET,
    SET_SELECTION,
    USERS_AS_SET,
    selected,
)

CONNECTIONS = 3  # it takes the server longer to write the lines than us to pass them on
FIRST_ROWS = 250  # rows of the first range: it comes at once
MOST_ROWS = 5_000  # rows of the ranges after it
_AFTER_FIRST = regions.START_OF_TIME + timedelta(microseconds=1)
READ_AHEAD = 8  # blocks of one range, as large as they come off the socket

_SETTINGS = f"""
    SELECT {SET_SELECTION},
        set_config('lykke.low', $7, true), set_config('lykke.low_id', $8, true),
        set_config('lykke.high', $9, true)
"""


class _Statements(NamedTuple):
    next: str
    """The first row after a range of $1 rows."""
    lines: str
    """The lines of a range, for COPY."""


def _in_range(user: str) -> str:
    """The rows in the range of which the condition `user` is true."""
    # In a SELECT of its own a setting is looked up once, not for every row.
    return f"""
        FROM audit_logs
        WHERE {user}
            AND occurred_at >= (SELECT current_setting('lykke.low')::timestamptz)
            AND (occurred_at, id) > (
                (SELECT current_setting('lykke.low')::timestamptz),
                (SELECT current_setting('lykke.low_id')::uuid)
            )
            AND occurred_at < (SELECT current_setting('lykke.high')::timestamptz)
    """


def _times(user: str) -> str:
    """The times after the start of the range, in order."""
    return f"""
        SELECT occurred_at::timestamptz {_in_range(user)}
            AND occurred_at > (SELECT current_setting('lykke.low')::timestamptz)
        ORDER BY audit_logs.occurred_at
    """


def _lines(user: str) -> str:
    return f"""
        SELECT format(
            '{{"id":"%s","user_id":"%s","activity_type":%s,"occurred_at":"%s",'
                '"entity_id":%s,"entity_type":%s,"meta":%s}}',
            id, user_id, to_json(activity_type::text),
            to_char(occurred_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            coalesce('"' || entity_id || '"', 'null'), coalesce(to_json(entity_type::text), 'null'),
            coalesce(nullif(CASE WHEN pg_typeof(meta) = 'jsonb'::regtype THEN meta::text
                ELSE btrim(translate(meta::text, E'\\r\\n', '  ')) END, 'null'), '{{}}')
        )
        {_in_range(user)} AND {REST_AS_SET}
        ORDER BY audit_logs.occurred_at, audit_logs.id
    """


_NTH = "OFFSET $1::bigint LIMIT 1"
_ONE_USER = f"user_id = ({USERS_AS_SET})[1]"
_OF_ALL_USERS = _Statements(f"{_times('TRUE')} {_NTH}", _lines("TRUE"))
_OF_ONE_USER = _Statements(f"{_times(_ONE_USER)} {_NTH}", _lines(_ONE_USER))
# Each user's first rows come off an index; together they would have to be sorted, all there are.
_OF_SEVERAL_USERS = _Statements(
    f"""
        SELECT occurred_at FROM unnest({USERS_AS_SET}) AS each (wanted)
        CROSS JOIN LATERAL ({_times("user_id = wanted")} LIMIT $1::bigint + 1) AS of_each
        ORDER BY occurred_at {_NTH}
    """,  # noqa: S608
    _lines(f"user_id = ANY({USERS_AS_SET}::uuid[])"),
)
# A line of JSON has no control characters, so that CSV with these never quotes it.
_AS_IT_IS = {"format": "csv", "delimiter": "\x02", "quote": "\x01"}


# Within a string of JSON every quotation mark has a backslash before it.
_LINE = re.compile(rb'\{"id":"([^"]+)".*?"occurred_at":"([^"]+)"')
T = TypeVar("T")


def _statements(user_ids: Set[UUID] | None) -> _Statements:
    if user_ids is None:
        return _OF_ALL_USERS
    return _OF_ONE_USER if len(user_ids) == 1 else _OF_SEVERAL_USERS


class Progress:
    """How far a range was read; `since` and `until` bound it, as in HistoryProtocol.

    What occurred at the very first or last moment of the calendar is left out.
    """

    def __init__(self, since: datetime | None, until: datetime | None) -> None:
        low = max(since or regions.START_OF_TIME, _AFTER_FIRST)
        moment, self.low_id = regions.just_before(low)
        self.low = format_time(moment)
        self.end = format_time(until or regions.END_OF_TIME)

    def reached(self, lines: bytes) -> None:
        """`lines` were handed over."""
        if last := _LINE.match(lines, lines.rfind(b"\n", 0, -1) + 1):
            self.low_id, self.low = last[1].decode(), last[2].decode()


class _Range(msgspec.Struct, frozen=True):
    low: str
    low_id: str
    high: str
    blocks: "asyncio.Queue[bytes]"
    """Whole lines; an empty block is the end."""


class LineReader:
    """Reads on from `progress`, and keeps it up to date.

    `first` is a connection in a transaction with the time zone UTC. `open_another` makes more
    connections that see the same snapshot. Where it fails there are fewer.
    """

    def __init__(
        self,
        first: Any,
        open_another: Callable[[], AbstractAsyncContextManager[Any]],
        selection: Selection,
        progress: Progress,
    ) -> None:
        self._first = first
        self._open_another = open_another
        self._selection = selection
        self._statements = _statements(selection.user_ids)
        self._progress = progress
        self._low, self._low_id = progress.low, progress.low_id
        self._rows = FIRST_ROWS
        self._is_over = False
        self._turn = asyncio.Lock()
        self._ranges: asyncio.Queue[_Range | None] = asyncio.Queue(CONNECTIONS)
        self._open: list[_Range] = []
        self._several = asyncio.Event()
        self._error: Exception | None = None

    async def blocks(self) -> AsyncGenerator[bytes]:
        """Whole lines, in order."""
        tasks = [asyncio.create_task(self._read(self._first))]
        tasks += [asyncio.create_task(self._help()) for _ in range(CONNECTIONS - 1)]
        try:
            while (part := await self._next(self._ranges)) is not None:
                while block := await self._next(part.blocks):
                    self._progress.reached(block)
                    yield block
        finally:
            await end(tasks)

    async def _next(self, queue: "asyncio.Queue[T]") -> T:
        """What comes next; raises the error that ended the reading after all that came before."""
        if self._error is not None and queue.empty():
            raise self._error
        item = await queue.get()
        if not item and self._error is not None:
            raise self._error
        return item

    def _fail(self, error: Exception) -> None:
        """Nothing more will come: wake whoever waits at one of the queues."""
        self._error = self._error or error
        with suppress(asyncio.QueueFull):
            self._ranges.put_nowait(None)
        for part in self._open:
            with suppress(asyncio.QueueFull):
                part.blocks.put_nowait(b"")

    async def _help(self) -> None:
        await self._several.wait()
        with suppress(LykkeError):
            async with self._open_another() as connection:
                await self._read(connection)

    async def _read(self, connection: Any) -> None:
        try:
            while (part := await self._next_range(connection)) is not None:
                await connection.copy_from_query(
                    self._statements.lines, output=part.blocks.put, **_AS_IT_IS
                )
                await part.blocks.put(b"")
                self._open.remove(part)
                self._several.set()  # not before: the first rows would come later
        except Exception as error:
            self._fail(error)

    async def _next_range(self, connection: Any) -> _Range | None:
        """The next range of time, in the settings of the `connection` that is to read it."""
        async with self._turn:
            if self._is_over:
                return None
            await self._set(connection, self._low, self._low_id, self._progress.end)
            high = await connection.fetchval(self._statements.next, self._rows)
            part = _Range(
                self._low,
                self._low_id,
                self._progress.end if high is None else format_time(high),
                asyncio.Queue(READ_AHEAD),
            )
            if high is not None:
                moment, self._low_id = regions.just_before(high)
                self._low = format_time(moment)
            self._is_over = high is None
            self._rows = min(2 * self._rows, MOST_ROWS)
            self._open.append(part)
            await self._ranges.put(part)
            if self._is_over:
                await self._ranges.put(None)
        await self._set(connection, part.low, part.low_id, part.high)
        return part

    async def _set(self, connection: Any, low: str, low_id: str, high: str) -> None:
        await connection.fetchrow(_SETTINGS, *selected(self._selection), low, low_id, high)
