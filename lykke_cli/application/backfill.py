"""Reading history without following: a range of time, or what was committed since a place."""

from collections.abc import AsyncGenerator, Sequence, Set
from contextlib import aclosing
from datetime import datetime
from uuid import UUID

import msgspec

from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import HistoryProtocol, Place
from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.application.merge import Checkpoint, Merge, Print, Read, ReadKind, Save
from lykke_cli.application.messages import Arrival, Entry, replay_message
from lykke_cli.application.pace import Pace
from lykke_cli.application.reconciling import Beginnings, answers
from lykke_cli.application.statuses import Notice


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A range of occurred_at: `since` inclusive, the filters' `until` exclusive.

    With `first` or `last` only the oldest or the newest of it, so many that the filters let
    through.
    """

    since: datetime | None = None
    first: int | None = None
    last: int | None = None
    newest_first: bool = False
    """The newest comes first; then `first` are the newest of it."""
    after: Place | None = None
    """The entry after which it begins, in its order."""


async def read_range(
    history: HistoryProtocol, user_ids: Set[UUID] | None, filters: Filters, wanted: Range
) -> AsyncGenerator[Sequence[Arrival]]:
    """Yield the range's entries in order; raises ServerUnavailable."""
    left = wanted.first if wanted.last is None else wanted.last
    stream = history.stream(
        filters.selection(user_ids),
        since=wanted.since,
        until=filters.until,
        limit=left if filters.is_all_sql else None,
        last=wanted.last,
        wanted=None if filters.is_all_sql else filters.wants,
        newest_first=wanted.newest_first,
        after=wanted.after,
    )
    async with aclosing(stream):
        async for entries in stream:
            matching = filters.select([Arrival(entry, "history") for entry in entries])[:left]
            if matching:
                yield matching
            if left is not None:
                left -= len(matching)
                if left <= 0:
                    return


async def catch_up(
    history: HistoryProtocol,
    user_ids: Set[UUID] | None,
    filters: Filters,
    *,
    resume: Checkpoint | None,
    since: datetime | None,
) -> AsyncGenerator[Print | Save | Notice]:
    """Yield what was committed since `resume`; without its cursor, what occurred from `since` on.

    It is read portion by portion, and to the end of all that have begun after it was called: those
    of an earlier run prove nothing of what was committed since. A Save follows each Print, as in
    `tail.py`. Raises ServerUnavailable.
    """
    merge, beginnings = Merge(resume), Beginnings()
    noticed, has_begun, in_portions = False, False, True
    while not has_begun or merge.goes_on:
        [read] = merge.tick(ReadKind.FULL)
        assert isinstance(read, Read)
        chunks = answers(
            history, read, user_ids, filters, since=since, last=None, in_portions=in_portions
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                if chunk.notice is not None and not noticed:
                    noticed = True
                    yield Notice(chunk.notice, may_repeat=not chunk.exact)
                if chunk.last:
                    has_begun |= chunk.anew
                    beginnings.note(chunk)
                    in_portions = beginnings.are_few and not chunk.behind
                for action in merge.chunk(chunk):
                    match action:
                        case Print(arrivals):
                            wanted = filters.select(arrivals)
                            if wanted:
                                yield Print(wanted)
                        case Save():
                            yield action


PUBLISHED_TOGETHER = 100  # entries; an interrupted replay publishes so many a second time at most


class Replayer:
    """Publishes entries again, marked as replayed, at most `rate` a second."""

    def __init__(
        self, gateway: PubSubGatewayProtocol, channel_type: str, rate: float | None
    ) -> None:
        self._gateway = gateway
        self._channel_type = channel_type
        self._pace = Pace(rate)

    async def publish(self, arrivals: Sequence[Arrival]) -> AsyncGenerator[Sequence[Arrival]]:
        """Publish the entries in order, and yield them, some at a time, once they are published.

        Raises ServerUnavailable.
        """
        together = 1 if self._pace.is_limited else PUBLISHED_TOGETHER
        for start in range(0, len(arrivals), together):
            some = arrivals[start : start + together]
            await self._pace.wait()
            entries = [a.message for a in some if isinstance(a.message, Entry)]
            outcomes = await self._gateway.publish_many(
                self._channel_type,
                [(UUID(entry.user_id), replay_message(entry)) for entry in entries],
            )
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome
            yield some
