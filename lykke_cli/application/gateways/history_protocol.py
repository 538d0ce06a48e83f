"""What was committed, read from the database: the truth behind the channel."""

from collections.abc import AsyncGenerator, Callable, Sequence, Set
from datetime import datetime
from typing import Any, Protocol, Self
from uuid import UUID

import msgspec

from lykke_cli.application.messages import Entry, UnreadableEntry


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries a reader wants; every part that is given narrows it."""

    user_ids: Set[UUID] | None
    """Any of these users; None selects every one."""
    activity_types: Sequence[str] = ()
    """Any of these, exactly; empty for all."""
    activity_likes: Sequence[str] = ()
    """Any type LIKE one of these, in its case, with a backslash as escape; empty for all."""
    excluded_likes: Sequence[str] = ()
    """No type LIKE any of these, likewise."""
    entity_type: str | None = None
    entity_id: UUID | None = None


class Cursor(msgspec.Struct, frozen=True):
    """A place in commit order: opaque to its holder, made and understood by one history.

    `data` is plain JSON, so that a cursor can be stored.
    """

    data: dict[str, Any]


HistoryRow = Entry | UnreadableEntry
Place = tuple[datetime, str]
"""When an entry occurred, and its id: plain history is in this order."""
Wanted = Callable[[Sequence[HistoryRow]], Sequence[bool]]
"""Tells of each row whether it is wanted, where a selection cannot say it all."""


class HistoryChunk(msgspec.Struct, frozen=True, kw_only=True):
    """Some rows of a read, in (occurred_at, id) order across the chunks of the read."""

    rows: Sequence[HistoryRow]
    """Committed entries the old cursor did not cover, for printing."""
    cursor: Cursor
    """Covers all that the old cursor did, and every row of the read up to here: no later read
    from it returns one of them again."""
    last: bool = False
    """The read is complete: its snapshot has become the cursor."""
    authoritative: bool = True
    """False where the server may lag behind broadcasts (a read replica)."""
    behind: bool = False
    """A complete read of a server that has not come as far as the old cursor: what it lacks of
    that comes later, and is covered."""
    exact: bool = True
    """False where the old cursor no longer fitted the database, and some of what it covered is
    read again: by time, or all of it. Entries of the read may then have been returned before."""
    notice: str | None = None
    """Something the person should know, such as a cursor that no longer fits this database."""
    covered_from: str | None = None
    """A recent read looked only at entries that occurred at or after this; None: at all."""
    goes_on: bool = False
    """With `last`: there is more to look at, which the next read that is not recent does."""
    anew: bool = True
    """With `last`: everything began to be looked at with this read, and not with an earlier one."""


class HistoryProtocol(Protocol):
    """Read access to the audit log table, with SELECT rights alone.

    Every method raises ServerUnavailable (or LoginRefused, SchemaMismatch).
    None shows less than an earlier one did, though several standbys answer in turns; so it is with
    all that a hub is given together.
    Reads stream: memory is flat in the number of rows. Whoever reads may take all the time there
    is: a transaction ends when it has waited for its reader for some seconds, and the read goes
    on in another one.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def identify(self) -> str:
        """What names this database apart from any other, however its URL is spelled."""
        ...

    def begin(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        last: int | None = None,
        wanted: Wanted | None = None,
    ) -> AsyncGenerator[HistoryChunk]:
        """The first read of a reader without a cursor.

        Rows are those that occurred at or after `since`, or the newest `last` of them (oldest
        first); with neither, none: only the cursor from which `changes` goes on.

        Where only rows that are `wanted` count among the newest, the others between them come too.
        They are found by reading from the newest on, a chunk at a time, and then read once more:
        memory does not grow with their number.
        """
        ...

    def changes(
        self,
        selection: Selection,
        cursor: Cursor,
        *,
        recent_only: bool = False,
        portion: bool = False,
    ) -> AsyncGenerator[HistoryChunk]:
        """What was committed and is not covered by `cursor`.

        `recent_only` looks only at entries that occurred lately, within the look-back window: cheap
        enough to be repeated. The cursor it returns claims no more.

        A `portion` is no longer than a moment: where all of it would take longer, the last chunk
        says that it `goes_on`, and the next portion from its cursor does. Until then `covered_from`
        says that nothing was looked at in full; at the end, that this holds for what was committed
        since the portion that began `anew`. One that is `recent_only` looks at what occurred or was
        written since the last one, and only now and then at the whole window.
        """
        ...

    def vouched(self, cursor: Cursor, by: Cursor) -> Cursor:
        """The same place, with the rows that were read with the cursor `by` to bear witness.

        They tell later which commits were lost. The very same cursor, where they tell no more than
        its own, or where it is not sure that both were read from one and the same history.
        """
        ...

    async def verify(self, selection: Selection, cursor: Cursor, ids: Sequence[str]) -> set[str]:
        """Of these ids those of entries that `cursor` does not cover, or that are not there."""
        ...

    def stream(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        last: int | None = None,
        wanted: Wanted | None = None,
        newest_first: bool = False,
        after: Place | None = None,
    ) -> AsyncGenerator[Sequence[HistoryRow]]:
        """Plain history by (occurred_at, id): `since` inclusive, `until` exclusive.

        With `limit` it ends after so many rows, with `last` it begins with the newest so many, as
        `begin` does. With `newest_first` it goes the other way, and `last` does not go with that.
        `after` is an entry after which it begins, whichever way it goes, at the cost of what is
        read from there on.
        What occurred before the calendar (the years 1 to 9999) comes first, what after it last,
        each by id; SQLite sorts by the text as it is stored.
        """
        ...

    def lines(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[bytes]:
        """What `stream` yields, as NDJSON: blocks of whole lines."""
        ...

    async def find(self, prefix: str, limit: int) -> Sequence[HistoryRow]:
        """At most `limit` rows whose id begins with `prefix`, by id.

        It is up to 32 hexadecimal digits, in lower case and without dashes.
        """
        ...

    async def count(
        self, selection: Selection, *, since: datetime | None = None, until: datetime | None = None
    ) -> int:
        """How many rows `stream` would yield without a limit."""
        ...
