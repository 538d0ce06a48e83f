"""What only PostgreSQL has: snapshots, subtransactions, transaction ids on a circle."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from lykke_cli.application.errors import LoginRefused, SchemaMismatch
from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, Selection
from lykke_cli.infrastructure.database import handover
from lykke_cli.infrastructure.postgresql import changes as postgres_changes
from lykke_cli.infrastructure.postgresql import engines, snapshots
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.builders import INSERT, entity, insert, row
from tests.servers import PostgresServer

USER = uuid.uuid4()
SELECTION = Selection(user_ids={USER})


@pytest.fixture
async def history(postgres_reader_url: str) -> AsyncIterator[PostgresHistory]:
    async with PostgresHistory(postgres_reader_url) as history:
        yield history


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def begin(history: PostgresHistory) -> HistoryChunk:
    return [chunk async for chunk in history.begin(SELECTION)][-1]


async def changes(history: PostgresHistory, cursor: Cursor) -> list[HistoryChunk]:
    return [chunk async for chunk in history.changes(SELECTION, cursor)]


def ids(chunks: list[HistoryChunk]) -> set[str]:
    return {row.id for chunk in chunks for row in chunk.rows}


async def test_a_row_under_a_savepoint_is_not_lost(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str
) -> None:
    """The snapshot does not list the subtransaction, whose id is below the snapshot's xmax."""
    late = entity(USER)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(INSERT, *row(entity(uuid.uuid4())))
    async with connection.transaction():
        await connection.execute(INSERT, *row(late))
    await insert(postgres_url, [entity(USER)])  # moves xmax beyond the subtransaction

    first = await begin(history)
    visible = await connection.fetchval(
        "SELECT pg_visible_in_snapshot(xmin::text::xid8, pg_current_snapshot()) "
        "FROM audit_logs WHERE id = $1",
        late.id,
    )
    assert visible, "the trap this test is about"
    await transaction.commit()
    assert str(late.id) in ids(await changes(history, first.cursor))


async def test_what_is_committed_beside_an_open_transaction_is_read_once(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str
) -> None:
    """The open one holds the snapshot's xmin back, for as long as it likes."""
    transaction = connection.transaction()
    await transaction.start()
    late = entity(USER)
    await connection.execute(INSERT, *row(late))
    await insert(postgres_url, [entity(USER)])

    first = await begin(history)
    chunks = await changes(history, first.cursor)
    assert ids(chunks) == set()  # it was there before the start
    new = entity(USER)
    await insert(postgres_url, [new])
    chunks = await changes(history, chunks[-1].cursor)
    assert ids(chunks) == {str(new.id)}
    chunks = await changes(history, chunks[-1].cursor)
    assert ids(chunks) == set()
    await transaction.commit()
    chunks = await changes(history, chunks[-1].cursor)
    assert ids(chunks) == {str(late.id)}
    assert ids(await changes(history, chunks[-1].cursor)) == set()


@pytest.mark.parametrize("options", [{}, {"since": timedelta(hours=1)}, {"last": 1}])
async def test_what_was_committed_before_the_start_is_not_new(
    history: PostgresHistory,
    connection: asyncpg.Connection,
    postgres_url: str,
    options: dict[str, object],
) -> None:
    """Not even what occurred days ago, while a transaction is open anywhere in the cluster."""
    await connection.execute("BEGIN")
    await connection.execute("SELECT pg_current_xact_id()")
    now = datetime.now(UTC)
    old = [entity(USER, occurred_at=now - timedelta(hours=hours)) for hours in (2, 3, 50)]
    await insert(postgres_url, [*old, entity(USER, occurred_at=now)])

    since = options.get("since")
    if isinstance(since, timedelta):
        options = {"since": now - since}
    begun = [chunk async for chunk in history.begin(SELECTION, **options)]  # type: ignore[arg-type]
    assert len(ids(begun)) == bool(options)
    for chunk in begun:
        assert not ids(await changes(history, chunk.cursor)) & {str(e.id) for e in old}


async def write_many(connection: asyncpg.Connection, count: int) -> None:
    """Rows of the user, each in a transaction of its own, with one of somebody else between."""
    await connection.execute(
        f"""
        DO $$ BEGIN
            FOR n IN 1..{count} LOOP
                INSERT INTO audit_logs (id, user_id, activity_type, occurred_at)
                    VALUES (gen_random_uuid(), '{USER}', 'X', now() AT TIME ZONE 'UTC');
                COMMIT;
                INSERT INTO audit_logs (id, user_id, activity_type, occurred_at)
                    VALUES (gen_random_uuid(), gen_random_uuid(), 'X', now() AT TIME ZONE 'UTC');
                COMMIT;
            END LOOP;
        END $$
        """  # noqa: S608
    )


# More than the 64 of one transaction that the server has at hand.
MANY_SUBTRANSACTIONS = f"""
    DO $$ BEGIN
        FOR n IN 1..80 LOOP
            BEGIN
                INSERT INTO audit_logs (id, user_id, activity_type, occurred_at)
                    VALUES (gen_random_uuid(), '{USER}', 'SUB', now() AT TIME ZONE 'UTC');
            EXCEPTION WHEN division_by_zero THEN NULL;
            END;
        END LOOP;
    END $$
"""  # noqa: S608


@pytest.mark.parametrize("most_asked", [1_000_000, 2_000])
async def test_a_transaction_that_stays_open_for_long_makes_no_large_cursor(
    history: PostgresHistory,
    connection: asyncpg.Connection,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    most_asked: int,
) -> None:
    """Not with thousands of commits since, read as they come; and all is read once, in the end."""
    monkeypatch.setattr(snapshots, "MOST_ASKED", most_asked)
    first = await begin(history)
    await connection.execute("BEGIN")
    late = [entity(USER) for _ in range(4)]
    await connection.execute(INSERT, *row(late[0]))
    writer = await asyncpg.connect(postgres_url)
    printed: list[str] = []
    cursor = first.cursor
    for new in late[1:]:
        await write_many(writer, 700)
        await connection.execute("SAVEPOINT one")  # whose id is among those of the others
        await connection.execute(INSERT, *row(new))
        await connection.execute(MANY_SUBTRANSACTIONS)
        chunks = await changes(history, cursor)
        printed += [row.id for chunk in chunks for row in chunk.rows]
        cursor = chunks[-1].cursor
        # Began now, too: what was committed before is not new.
        begun = await begin(history)
        assert ids(await changes(history, begun.cursor)) == set()
        assert max(map(size, [*(chunk.cursor for chunk in chunks), begun.cursor])) < (
            5_000 if most_asked > 2_000 else 50_000
        )
    await writer.close()
    assert len(set(printed)) == len(printed) == 3 * 700
    await connection.execute("COMMIT")
    expected = {str(e.id) for e in late}
    many = await connection.fetch("SELECT id::text FROM audit_logs WHERE activity_type = 'SUB'")
    expected |= {id for (id,) in many}
    assert len(expected) == 4 + 3 * 80
    assert ids(await changes(history, cursor)) == expected
    assert ids(await changes(history, begun.cursor)) == expected


def size(cursor: Cursor) -> int:
    return len(json.dumps(cursor.data))


async def test_a_place_that_grows_large_is_told_of(
    history: PostgresHistory,
    connection: asyncpg.Connection,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it may not be asked which transactions have ended, nothing is lost either."""
    monkeypatch.setattr(postgres_changes, "MOST_RUNS", 100)
    monkeypatch.setattr(snapshots, "FAR_APART", 10**9)
    await connection.execute("BEGIN")
    await connection.execute("SELECT pg_current_xact_id()")
    first = await begin(history)
    writer = await asyncpg.connect(postgres_url)
    await write_many(writer, 200)
    chunks = await changes(history, first.cursor)
    assert chunks[-1].notice is None and len(ids(chunks)) == 200
    await write_many(writer, 1)
    await writer.close()
    chunks = await changes(history, chunks[-1].cursor)
    assert len(ids(chunks)) == 1
    assert chunks[-1].notice is not None and "open for so long" in chunks[-1].notice


OPTIONAL = [
    "pg_current_wal_insert_lsn()",
    "pg_walfile_name(pg_lsn)",
    "pg_control_checkpoint()",
    "pg_postmaster_start_time()",
    "pg_stat_get_bgwriter_stat_reset_time()",
    "pg_xact_status(xid8)",
    "pg_relation_size(regclass,text)",
]


@pytest.mark.parametrize("function", OPTIONAL)
async def test_a_role_that_may_ask_for_less_reads_all_the_same(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str, function: str
) -> None:
    """And is told, once for each read, what cannot be known then and which right is missing."""
    await connection.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    try:
        first = await begin(history)
        new = entity(USER)
        await insert(postgres_url, [new])
        chunks = await changes(history, first.cursor)
        assert ids(chunks) == {str(new.id)}
        for chunk in (first, chunks[-1]):
            if function in OPTIONAL[:5]:
                assert chunk.notice is not None
                assert f"GRANT EXECUTE ON FUNCTION {function} TO" in chunk.notice
            else:
                assert chunk.notice is None
    finally:
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")


async def test_who_looks_for_what_is_rare_has_witnesses_too(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str
) -> None:
    """A filter that lets nothing through does not have the whole table looked at for some."""
    await insert(postgres_url, [entity(USER) for _ in range(3)])
    await connection.execute(f"REVOKE EXECUTE ON FUNCTION {OPTIONAL[-1]} FROM PUBLIC")
    try:
        rare = Selection(user_ids={USER}, entity_type="none is")
        [begun] = [chunk async for chunk in history.begin(rare)]
        assert begun.cursor.data["witnesses"]["rows"]
    finally:
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {OPTIONAL[-1]} TO PUBLIC")


async def test_a_role_that_may_not_know_the_order_of_commits_is_told_the_right(
    history: PostgresHistory, connection: asyncpg.Connection
) -> None:
    await connection.execute("REVOKE EXECUTE ON FUNCTION pg_current_snapshot() FROM PUBLIC")
    try:
        with pytest.raises(LoginRefused, match="pg_current_snapshot") as caught:
            await begin(history)
        assert "EXECUTE ON FUNCTION" in str(caught.value.remedy)
    finally:
        await connection.execute("GRANT EXECUTE ON FUNCTION pg_current_snapshot() TO PUBLIC")


async def test_a_view_in_the_place_of_the_table_is_called_one(
    history: PostgresHistory, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "ALTER TABLE audit_logs RENAME TO audit_logs_2026;"
        "CREATE VIEW audit_logs AS SELECT * FROM audit_logs_2026;"
        "GRANT SELECT ON audit_logs TO reader"
    )
    with pytest.raises(SchemaMismatch, match=r"is a view.* the table itself is needed"):
        await begin(history)


async def test_freezing_changes_nothing(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str
) -> None:
    await insert(postgres_url, [entity(USER)])
    first = await begin(history)
    await connection.execute("VACUUM (FREEZE) audit_logs")
    assert ids(await changes(history, first.cursor)) == set()


def aged(region: list[object]) -> list[object]:
    """The same, of over two billion transactions ago."""
    return [3 - 2**31, *region[1:]]


@pytest.mark.parametrize(
    ("change", "notice"),
    [
        (
            lambda data: data | {"origin": data["origin"] | {"database": "elsewhere/1"}},
            "another database",
        ),
        (lambda data: data | {"groups": [[[1], [aged(data["groups"][0][1][0])]]]}, "two billion"),
        (lambda data: data | {"groups": "nonsense"}, "cannot be read"),
    ],
)
async def test_a_place_that_does_not_fit_is_told_and_read_again_by_time(
    history: PostgresHistory, postgres_url: str, change: object, notice: str
) -> None:
    now = datetime.now(UTC)
    recent = entity(USER, occurred_at=now - timedelta(minutes=10))
    await insert(postgres_url, [recent, entity(USER, occurred_at=now - timedelta(hours=3))])
    first = await begin(history)
    cursor = Cursor(change(first.cursor.data))  # type: ignore[operator]
    chunks = await changes(history, cursor)
    assert notice in str(chunks[0].notice)
    assert ids(chunks) == {str(recent.id)}
    assert not any(chunk.exact for chunk in chunks)
    assert (await changes(history, chunks[-1].cursor))[-1].notice is None


async def test_another_database_of_the_same_server_is_another(
    postgres_server: PostgresServer,
    make_postgres_database: Callable[..., str],
    history: PostgresHistory,
) -> None:
    """A dump restored under another name: transaction ids of the same server, other rows."""
    first = await begin(history)
    async with PostgresHistory(postgres_server.url(make_postgres_database())) as other:
        chunks = await changes(other, first.cursor)
        assert "another database" in str(chunks[0].notice)


async def test_reading_leaves_no_trace(
    connection: asyncpg.Connection,
    postgres_url: str,
    postgres_reader_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Read-only, no named statements, no session settings: PgBouncer may be between."""
    handovers: list[handover.Handover[HistoryChunk]] = []

    class Handover(handover.Handover[HistoryChunk]):
        def __init__(self) -> None:
            super().__init__()
            handovers.append(self)

    monkeypatch.setattr(handover, "Handover", Handover)
    await insert(postgres_url, [entity(USER) for _ in range(9)])
    async with PostgresHistory(postgres_reader_url, chunk_rows=1) as history:
        chunks = history.begin(SELECTION, last=9)
        await anext(chunks)
        while len(handovers[0]._items) < handover.LENGTH:  # noqa: ASYNC110 # then it waits for us
            await asyncio.sleep(0.001)
        own = history._snapshots._connection
        named = "SELECT count(*) FROM pg_prepared_statements WHERE name > ''"
        assert await own.fetchval(named) == 0
        assert await own.fetchval("SHOW transaction_read_only") == "on"
        assert len([chunk async for chunk in chunks]) == 10
        assert await own.fetchval("SHOW TimeZone") == await connection.fetchval("SHOW TimeZone")
        assert await own.fetchval("SHOW statement_timeout") == "0"


async def test_a_connection_that_ends_before_its_first_snapshot_is_made_again(
    history: PostgresHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a standby, where a conflict with recovery may come that early."""
    check, ended = engines.refuse_unfit, 0

    async def end_the_first(connection: asyncpg.Connection, display: str) -> None:
        nonlocal ended
        if not ended:
            ended += 1
            with suppress(asyncpg.PostgresError):
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        await check(connection, display)

    monkeypatch.setattr(snapshots, "refuse_unfit", end_the_first)
    assert (await begin(history)).last
    assert ended
