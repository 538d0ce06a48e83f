"""Read-only transactions, each of which sees the table at one moment."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from lykke_cli.application.errors import SchemaMismatch, ServerUnavailable
from lykke_cli.infrastructure.database.errors import broken_off, database_errors
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.urls import asyncpg_dsn, display_url
from lykke_cli.infrastructure.postgresql.connection import LOCAL_SETTINGS, connect
from lykke_cli.infrastructure.postgresql.cursor import Origin, Snapshot, lags
from lykke_cli.infrastructure.postgresql.engines import refuse_unfit
from lykke_cli.infrastructure.postgresql.furthest import Furthest
from lykke_cli.infrastructure.postgresql.rights import (
    CONTROL,
    REPLAYED,
    XACT_STATUS,
    Offer,
    offer_of,
)

FAR_APART = 1_000
"""How many transactions may have begun since the oldest that is open before it is asked which of
them have ended."""
TOO_NEW = 200
"""How many of the newest are not asked about. Where a transaction has many subtransactions, the id
of one is in use for a moment before the server can tell that it is (`GetNewTransactionId`)."""
MOST_ASKED = 1_000_000
"""How many of them are asked about by one read; the next one goes on."""
LAG = 5.0  # seconds that a standby is given to come as far as another one was
LOOK_AGAIN = 0.05  # seconds
_SNAPSHOT_ID = re.compile(r"[0-9A-F-]+")
_TRANSACTION: Final = {"isolation": "repeatable_read", "readonly": True}
_IN_PROGRESS = """
    SELECT xid
    FROM unnest($1::bigint[], $2::bigint[]) AS run (first, last),
        generate_series(first, last) AS xid
    WHERE pg_xact_status(xid::text::xid8) = 'in progress'
"""
_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"
_REPLICA_TIMELINE = """
    SELECT greatest(min_recovery_end_timeline, timeline_id)
    FROM pg_control_recovery(), pg_control_checkpoint()
"""
_LOCKS = {
    "p": "LOCK TABLE ONLY audit_logs IN ACCESS SHARE MODE",
    "r": "LOCK TABLE audit_logs IN ACCESS SHARE MODE",
}
"""Before the snapshot, where the table consists of several relations: what it shows is then read.

Every statement takes this lock, but later: what was detached between is not read, and the snapshot
would say that it was. A partition cannot be detached while its table is locked. What inherits from
a table can be taken from it all the same, unless it is locked as well.
"""
_KINDS = {"v": "a view", "f": "a foreign table"}
_NO_COLUMN = ("42703", "0A000")  # SQLSTATEs: there is no xmin, or it cannot be had


class Snapshots:
    """Takes one after the other, on one connection; `url` as in DATABASE_URL.

    Connects on first use, and again after an error. None shows less than the `furthest` did when
    it was asked for.
    """

    def __init__(self, url: str, furthest: Furthest) -> None:
        self._furthest = furthest
        self._dsn = asyncpg_dsn(url)
        self._display = display_url(url)
        self._connection: Any = None
        self._system = ""
        self._offer = Offer()
        self._identity: str | None = None
        self._is_standby = False
        self._is_several = False  # relations
        self._lock = asyncio.Lock()

    def close(self) -> None:
        """Break off whatever is under way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def identify(self) -> str:
        """What names the database, as in HistoryProtocol."""
        if self._identity is None:
            async with self.take():
                pass  # names it
        assert self._identity is not None
        return self._identity

    def may_call(self, function: str) -> bool:
        """True where that is answered; known from the first snapshot on."""
        return self._offer.answers([function])

    def limits(self) -> str | None:
        """What the server does not tell this role, for the person; None if it tells all."""
        return self._offer.limits

    @asynccontextmanager
    async def take(
        self, known: Callable[[Snapshot], Runs] | None = None
    ) -> AsyncGenerator[tuple[Any, Snapshot]]:
        """A transaction in which every statement sees the same moment, and its snapshot.

        With `known`, the transactions that are known to have ended, it is found out which of the
        others had, where there are many: `Snapshot.ended`. Raises ServerUnavailable where a
        standby does not come as far as another one was.
        """
        async with self._lock:
            with database_errors(self._display):
                try:
                    connection, transaction, snapshot = await self._begin_as_far()
                    if known is not None and self._is_far_apart(snapshot):
                        then = snapshot.origin
                        ended = await _ended(connection, snapshot, known(snapshot))
                        await transaction.commit()
                        connection, transaction, snapshot = await self._begin_as_far()
                        now = snapshot.origin
                        # Behind a pooler it may be another server, which is not so far yet.
                        if (then.database, then.server) == (now.database, now.server):
                            ended = ended.starting(snapshot.xmin)
                            snapshot = msgspec.structs.replace(snapshot, ended=ended)
                    yield connection, snapshot
                    await transaction.commit()
                except BaseException as error:
                    # What is left half-read is not used again. It is not even rolled back: that
                    # would wait until the server has noticed, and hold its locks as long.
                    was_let_in = self._connection is not None
                    self.close()
                    if was_let_in and (lost := broken_off(error, self._display)) is not None:
                        raise lost from error
                    kind = _KINDS.get(self._offer.kind)
                    if kind is not None and getattr(error, "sqlstate", None) in _NO_COLUMN:
                        raise SchemaMismatch(
                            f"audit_logs at {self._display} is {kind}, which has no "
                            "order of commits (xmin): the table itself is needed.",
                            remedy="Let the search_path of this role lead to the table: "
                            "ALTER ROLE <role> SET search_path = ...",
                        ) from error
                    raise

    @asynccontextmanager
    async def share(self, exported: str) -> AsyncGenerator[Any]:
        """Another connection that sees the snapshot of a transaction that is still open.

        `exported` is what pg_export_snapshot() returned in it.
        """
        if not _SNAPSHOT_ID.fullmatch(exported):
            raise ValueError(f"{exported!r} is not the name of a snapshot")
        with database_errors(self._display):
            connection = await connect(self._dsn)
            try:
                await connection.transaction(**_TRANSACTION).start()
                await connection.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
                # The first transaction holds its lock while this one waits for its own. Behind an
                # ALTER TABLE that waits for the first, this one would wait for ever.
                await connection.execute(LOCAL_SETTINGS + "; SET LOCAL lock_timeout = '1s'")
                yield connection
            finally:
                connection.terminate()

    async def _begin_as_far(self) -> tuple[Any, Any, Snapshot]:
        """The same as `_begin`, once the server has come as far as was read before."""
        loop, then = asyncio.get_running_loop(), self._furthest.origin
        until = loop.time() + LAG
        while True:
            connection, transaction, snapshot = await self._begin()
            if then is None or not lags(then, snapshot):
                self._furthest.note(snapshot)
                return connection, transaction, snapshot
            await transaction.commit()
            if loop.time() > until:
                raise ServerUnavailable(
                    f"The standby at {self._display} is behind what was read before.",
                    remedy="Does it still follow its primary?",
                )
            await asyncio.sleep(LOOK_AGAIN)

    async def _begin(self) -> tuple[Any, Any, Snapshot]:
        """A connection, the transaction that begins on it, and its snapshot."""
        connection = self._connection
        is_new = connection is None or connection.is_closed()
        if is_new:
            self._connection = connection = await connect(self._dsn)
        reached = await self._replayed(connection) if self._is_standby and not is_new else 0
        transaction = connection.transaction(**_TRANSACTION)
        await transaction.start()
        lock = _LOCKS[self._offer.kind] if self._is_several and not is_new else None
        await connection.execute(f"{LOCAL_SETTINGS}; {lock}" if lock else LOCAL_SETTINGS)
        if is_new:
            await refuse_unfit(connection, self._display)
            self._offer = await offer_of(connection)
            self._system = ""
            if self._offer.answers(CONTROL.functions):
                self._system = await connection.fetchval(_SYSTEM)
        asked = await connection.fetchrow(self._offer.snapshot_query)
        text, at, in_recovery, database, relations, lsn, timeline, started, crashed = asked
        self._is_standby, kind = in_recovery, self._offer.kind
        self._is_several = kind == "p" or (kind == "r" and len(relations) > 1)
        # Both come before the snapshot.
        if (is_new and in_recovery) or (self._is_several and lock is None):
            await transaction.commit()
            return await self._begin()
        number = 0 if timeline is None else int(timeline, 16)
        if in_recovery and self._offer.answers(CONTROL.functions):
            number = await connection.fetchval(_REPLICA_TIMELINE)
        server = "" if started is None else started + (crashed or "")
        name = f"{self._system}/{database}"
        self._identity = self._named(name)
        origin = Origin(name, number, int(lsn or 0), server, in_recovery)
        xmin, xmax, _ = text.split(":")
        snapshot = Snapshot(
            int(xmin), int(xmax), at, origin, relations=frozenset(relations), reached=reached
        )
        return connection, transaction, snapshot

    async def _replayed(self, connection: Any) -> int:
        """How far a standby has come; 0 where it may not be asked."""
        if not self._offer.answers(REPLAYED.functions):
            return 0
        async with connection.transaction(readonly=True):  # a pooler may lie between
            return int(await connection.fetchval(f"SELECT {REPLAYED.expression}") or 0)

    def _is_far_apart(self, snapshot: Snapshot) -> bool:
        """True where it pays to ask which transactions have ended, and it may be asked."""
        return (
            snapshot.xmax - snapshot.xmin > FAR_APART
            and self.may_call(XACT_STATUS)
            and bool(snapshot.origin.server)
        )

    def _named(self, database: str) -> str:
        # Where the cluster's own name may not be asked for, its address has to do.
        return f"postgresql:{database if self._system else self._display + database}"


async def _ended(connection: Any, snapshot: Snapshot, known: Runs) -> Runs:
    """Those of the transactions from the snapshot's xmin on that have ended by now.

    Whatever snapshot is taken afterwards shows their rows, if they were committed.
    """
    asked: list[tuple[int, int]] = []
    left, until = MOST_ASKED, snapshot.xmin
    for begin, end in known.gaps(snapshot.xmin, snapshot.xmax - TOO_NEW).pairs():
        until = min(end, begin + left)
        left -= until - begin
        asked.append((begin, until))
        if not left:
            break
    firsts, lasts = [begin for begin, _ in asked], [end - 1 for _, end in asked]
    records = await connection.fetch(_IN_PROGRESS, firsts, lasts)
    return known | Runs.of(xid for (xid,) in records).gaps(snapshot.xmin, until)
