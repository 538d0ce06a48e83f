"""Transaction ids that are given out again: fail-overs, restored backups, crashes."""

import asyncio
import os
import secrets
import shutil
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import orjson
import pytest

from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, Selection
from lykke_cli.application.journal import Portion
from lykke_cli.bootstrap import make_hub
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.postgresql import snapshots
from lykke_cli.infrastructure.postgresql.furthest import Furthest
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from lykke_cli.infrastructure.postgresql.snapshots import Snapshots
from tests.builders import entity, insert
from tests.cli_process import run_lykke
from tests.databases import page_by_page
from tests.faults.standby import Standby
from tests.servers import READER_PASSWORD, PostgresServer, wait_until

USER = uuid.uuid4()
SELECTION = Selection(user_ids={USER})
NEW = 25
AGES = [timedelta(0), timedelta(days=30)]


def reader_url(server: PostgresServer, database: str) -> str:
    return server.url(database, "reader", READER_PASSWORD)


async def record(server: PostgresServer, database: str, count: int) -> set[str]:
    """Each in a transaction of its own, some back-dated by days; returns their ids."""
    entities = [
        entity(USER, occurred_at=datetime.now(UTC) - AGES[n % len(AGES)]) for n in range(count)
    ]
    for one in entities:
        await insert(server.url(database), [one])
    return {str(one.id) for one in entities}


async def begin(url: str) -> Cursor:
    async with PostgresHistory(url) as history:
        return [chunk async for chunk in history.begin(SELECTION)][-1].cursor


async def changes(url: str, cursor: Cursor, *, recent: bool = False) -> list[HistoryChunk]:
    async with PostgresHistory(url) as history:
        return [c async for c in history.changes(SELECTION, cursor, recent_only=recent)]


def ids(chunks: list[HistoryChunk]) -> list[str]:
    return sorted(row.id for chunk in chunks for row in chunk.rows)


@pytest.fixture
def database(own_postgres: PostgresServer) -> str:
    return own_postgres.make_database()


@pytest.fixture
def standby(own_postgres: PostgresServer, database: str) -> Iterator[Standby]:
    with Standby(own_postgres) as made:
        yield made


@pytest.mark.parametrize("recent", [False, True])
async def test_a_standby_is_promoted_that_lacked_the_last_commits(
    own_postgres: PostgresServer, database: str, standby: Standby, recent: bool
) -> None:
    """All that is committed after it is read once, back-dated or not, and nothing twice."""
    url = reader_url(own_postgres, database)
    cursor = await begin(url)
    kept = await record(own_postgres, database, 5)
    standby.catch_up()
    standby.cut_off()
    lost = await record(own_postgres, database, 30)
    chunks = await changes(url, cursor)
    assert ids(chunks) == sorted(kept | lost)

    own_postgres.kill()
    standby.promote()
    new = await record(standby, database, NEW)
    chunks = await changes(reader_url(standby, database), chunks[-1].cursor, recent=recent)
    assert set(ids(chunks)) - kept == new
    assert "timeline 1 to 2" in str(chunks[0].notice)
    assert not any(chunk.exact for chunk in chunks)
    assert (await changes(reader_url(standby, database), chunks[-1].cursor))[-1].notice is None


async def test_a_fail_over_without_loss_repeats_nothing(
    own_postgres: PostgresServer, database: str, standby: Standby
) -> None:
    url = reader_url(own_postgres, database)
    cursor = await begin(url)
    before = await record(own_postgres, database, 30)
    chunks = await changes(url, cursor)
    assert ids(chunks) == sorted(before)
    standby.catch_up()
    own_postgres.kill()
    standby.promote()
    new = await record(standby, database, NEW)
    chunks = await changes(reader_url(standby, database), chunks[-1].cursor)
    assert ids(chunks) == sorted(new)
    assert "still there" in str(chunks[0].notice)
    assert all(chunk.exact for chunk in chunks)


async def test_a_standby_that_lags_is_waited_for(
    own_postgres: PostgresServer, database: str, standby: Standby
) -> None:
    url, behind = reader_url(own_postgres, database), reader_url(standby, database)
    cursor = await begin(url)
    before = await record(own_postgres, database, 10)
    standby.catch_up()
    standby.execute("SELECT pg_wal_replay_pause()")
    before |= await record(own_postgres, database, 10)
    chunks = await changes(url, cursor)
    assert ids(chunks) == sorted(before)
    new = await record(own_postgres, database, 10)

    lagging = await changes(behind, chunks[-1].cursor)
    assert ids(lagging) == []
    assert "behind" in str(lagging[-1].notice)
    assert lagging[-1].exact and lagging[-1].behind and not chunks[-1].behind
    lagging = await changes(behind, lagging[-1].cursor)
    assert ids(lagging) == []
    standby.execute("SELECT pg_wal_replay_resume()")
    standby.catch_up()
    caught_up = await changes(behind, lagging[-1].cursor)
    assert ids(caught_up) == sorted(new) and not caught_up[-1].behind
    assert ids(await changes(url, lagging[-1].cursor)) == sorted(new)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    page_by_page(monkeypatch)


async def portion(url: str, cursor: Cursor) -> tuple[list[str], HistoryChunk]:
    async with PostgresHistory(url) as history:
        chunks = [c async for c in history.changes(SELECTION, cursor, portion=True)]
    return ids(chunks), chunks[-1]


async def portions(url: str, cursor: Cursor) -> list[str]:
    """What comes of them, up to the last."""
    found, goes_on = list[str](), True
    while goes_on:
        some, last = await portion(url, cursor)
        found += some
        cursor, goes_on = last.cursor, last.goes_on
    return sorted(found)


async def fill(server: PostgresServer, database: str) -> set[str]:
    """A few pages, of one transaction, long ago."""
    meta, long_ago = {"text": secrets.token_hex(900)}, datetime.now(UTC) - AGES[1]
    entities = [entity(USER, occurred_at=long_ago, meta=meta) for _ in range(20)]
    await insert(server.url(database), entities)
    return {str(one.id) for one in entities}


@pytest.mark.usefixtures("large")
async def test_slices_that_began_before_a_fail_over_begin_anew_after_it(
    own_postgres: PostgresServer, database: str, standby: Standby
) -> None:
    """What the old primary had shown on their pages is not there, and others have its numbers."""
    url, after = reader_url(own_postgres, database), reader_url(standby, database)
    cursor = await begin(url)
    kept = await fill(own_postgres, database)
    standby.catch_up()
    standby.cut_off()
    await record(own_postgres, database, 30)  # is lost
    for _ in range(3):
        found, last = await portion(url, cursor)
        assert not found and last.goes_on
        cursor = last.cursor
    own_postgres.kill()
    standby.promote()
    new = await fill(standby, database)
    assert await portions(after, cursor) == sorted(kept | new)


@pytest.mark.usefixtures("large")
async def test_slices_wait_for_a_standby_that_lags(
    own_postgres: PostgresServer, database: str, standby: Standby
) -> None:
    """On its pages is not yet what had been shown when they began."""
    url, behind = reader_url(own_postgres, database), reader_url(standby, database)
    cursor = await begin(url)
    standby.catch_up()
    standby.execute("SELECT pg_wal_replay_pause()")
    written = await fill(own_postgres, database)
    _, last = await portion(url, cursor)
    for _ in range(10):
        found, last = await portion(behind, last.cursor)
        assert not found and last.goes_on and last.behind and not last.anew
    standby.execute("SELECT pg_wal_replay_resume()")
    standby.catch_up()
    assert await portions(behind, last.cursor) == sorted(written)


async def test_a_partitioned_table_is_read_on_a_standby(
    own_postgres: PostgresServer, database: str, standby: Standby
) -> None:
    """Where nothing may be locked but for reading."""
    partitioned = """
        ALTER TABLE audit_logs RENAME TO part;
        CREATE TABLE audit_logs (LIKE part) PARTITION BY RANGE (occurred_at);
        ALTER TABLE audit_logs ATTACH PARTITION part DEFAULT;
        GRANT SELECT ON audit_logs TO reader;
    """
    connection = await asyncpg.connect(own_postgres.url(database))
    await connection.execute(partitioned)
    await connection.close()
    standby.catch_up()
    cursor = await begin(reader_url(standby, database))
    new = await record(own_postgres, database, 3)
    standby.catch_up()
    assert ids(await changes(reader_url(standby, database), cursor)) == sorted(new)


async def test_nobody_is_answered_by_a_standby_that_has_less_than_was_read_before(
    own_postgres: PostgresServer,
    database: str,
    standby: Standby,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would say of an entry that was read that it is not there."""
    url, behind = reader_url(own_postgres, database), reader_url(standby, database)
    cursor = await begin(url)
    standby.catch_up()
    standby.execute("SELECT pg_wal_replay_pause()")
    written = sorted(await record(own_postgres, database, 10))
    furthest = Furthest()
    async with (
        PostgresHistory(url, furthest=furthest) as far,
        PostgresHistory(behind, furthest=furthest) as near,
    ):
        [*_, last] = [chunk async for chunk in far.changes(SELECTION, cursor)]
        monkeypatch.setattr(snapshots, "LAG", 0.0)
        with pytest.raises(ServerUnavailable, match="behind what was read"):
            await near.verify(SELECTION, last.cursor, written)
        monkeypatch.setattr(snapshots, "LAG", 60.0)
        asked = asyncio.create_task(near.verify(SELECTION, last.cursor, written))
        standby.execute("SELECT pg_wal_replay_resume()")
        assert await asked == set()


async def test_how_far_a_standby_has_come_is_asked_before_its_snapshot(
    own_postgres: PostgresServer, standby: Standby
) -> None:
    for server in (own_postgres, standby):
        taken = Snapshots(server.url(), Furthest())
        for _ in range(2):  # on a new connection, and on one that was there
            async with taken.take() as (_, snapshot):
                is_standby = snapshot.origin.in_recovery
                assert (0 < snapshot.reached <= snapshot.origin.lsn) == is_standby
        taken.close()


def test_what_a_lagging_standby_lacks_is_not_written_twice_when_the_state_is_lost(
    own_postgres: PostgresServer, database: str, standby: Standby, tmp_path: Path
) -> None:
    """It stands in the file, though no read returned it and no place knows it."""
    env = {"DATABASE_URL": reader_url(own_postgres, database)}
    behind = {"DATABASE_URL": reader_url(standby, database)}
    target = tmp_path / "audit.ndjson"
    backfill = ("backfill", USER, "--since", "40d", "--to-file", target)
    written = asyncio.run(record(own_postgres, database, 10))
    standby.catch_up()
    standby.execute("SELECT pg_wal_replay_pause()")
    written |= asyncio.run(record(own_postgres, database, 10))
    assert run_lykke(*backfill, env=env).status == 0
    shutil.rmtree(tmp_path / "state")
    for _ in range(2):
        assert "0 printed" in run_lykke(*backfill, env=behind).stderr
    standby.execute("SELECT pg_wal_replay_resume()")
    standby.catch_up()
    assert "0 printed" in run_lykke(*backfill, env=behind).stderr
    new = asyncio.run(record(own_postgres, database, 3))
    assert "3 printed" in run_lykke(*backfill, env=env).stderr
    found = [orjson.loads(line)["id"] for line in target.read_bytes().splitlines()]
    assert sorted(found) == sorted(written | new)


async def test_one_address_leads_to_the_primary_and_to_its_standby_in_turns(
    own_postgres: PostgresServer, database: str, standby: Standby
) -> None:
    """As a load balancer does; the standby is behind by what it has not replayed yet."""
    both = [reader_url(server, database) for server in (own_postgres, standby)]
    cursor = await begin(both[0])
    committed: set[str] = set()
    found: list[str] = []
    for turn in range(7):
        committed |= await record(own_postgres, database, 4)
        if turn % 3 == 0:
            standby.catch_up()
        chunks = await changes(both[turn % 2], cursor, recent=turn % 4 > 1)
        found += ids(chunks)
        cursor = chunks[-1].cursor
        assert "lost" not in str(chunks[0].notice)
    found += ids(await changes(both[0], cursor))
    assert sorted(found) == sorted(committed)


async def test_a_crash_that_loses_commits_which_were_not_waited_for(
    own_postgres: PostgresServer, database: str
) -> None:
    """The timeline stays the same, and the log grows beyond where it was."""
    own_postgres.execute("ALTER SYSTEM SET synchronous_commit = off")
    own_postgres.restart()
    await asyncio.to_thread(stop_the_log_from_being_written, own_postgres)
    url = reader_url(own_postgres, database)
    cursor = await begin(url)
    kept = await record(own_postgres, database, 5)
    own_postgres.execute("CHECKPOINT")
    printed = await record(own_postgres, database, 30)
    chunks = await changes(url, cursor)
    assert ids(chunks) == sorted(kept | printed)
    own_postgres.restart()  # kills it
    left = set(ids(await changes(url, cursor))) & printed
    assert left != printed, "the trap this test is about"
    new = await record(own_postgres, database, 3 * NEW)
    chunks = await changes(url, chunks[-1].cursor)
    assert set(ids(chunks)) - kept - printed == new
    assert "lost its last commits" in str(chunks[0].notice)
    assert not any(chunk.exact for chunk in chunks)


def stop_the_log_from_being_written(server: PostgresServer) -> None:
    """Before somebody waits for it, or it is killed."""
    query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
    os.kill(wait_until(lambda: server.fetch_value(query), "it writes"), signal.SIGSTOP)


async def test_a_crash_makes_a_hub_send_nothing_again_that_only_a_reader_had_read(
    own_postgres: PostgresServer, database: str, redis_url: str
) -> None:
    """The hub's own cursor covers it, and has no such row to bear witness by itself."""
    url = reader_url(own_postgres, database)
    settings = Settings(redis_url=redis_url, database_url=url)
    async with (
        asyncio.timeout(60),
        make_hub(settings, reconcile_interval=0.1) as hub,
        hub.reader(uuid.uuid4()) as other,
    ):
        await other.begun()
        entries = [entity(USER) for _ in range(6)]
        for one in entries[:5]:
            await insert(own_postgres.url(database), [one])
        for _ in range(2):  # passes, of which the second sees all that, and reads none of it
            begun = other.checkpoint
            while other.checkpoint == begun:
                await other.next(0.05)
        async with hub.reader(USER, last=5) as reader:
            sent = list[str]()
            is_caught_up = False
            while not is_caught_up:
                portion = await reader.next()
                sent += ids_of(portion)
                is_caught_up = portion.caught_up
            assert len(sent) == 5
            begun = reader.checkpoint
            while reader.checkpoint == begun:  # another pass
                await reader.next(0.05)
            own_postgres.restart()  # kills it
            await insert(own_postgres.url(database), entries[5:])
            while len(sent) < 6:
                sent += ids_of(await reader.next())
    assert sorted(sent) == sorted(str(one.id) for one in entries)


def ids_of(portion: Portion) -> list[str]:
    return [line.id for line in portion.lines if line.id is not None]


async def test_what_was_back_dated_before_the_start_is_not_new_after_a_restart(
    own_postgres: PostgresServer, database: str
) -> None:
    """It was written last, and occurred long before the newest."""
    await record(own_postgres, database, 20)
    old = entity(USER, occurred_at=datetime.now(UTC) - timedelta(days=30))
    await insert(own_postgres.url(database), [old])
    url = reader_url(own_postgres, database)
    cursor = await begin(url)
    own_postgres.restart()
    new = await record(own_postgres, database, 5)
    chunks = await changes(url, cursor)
    assert ids(chunks) == sorted(new)
    assert chunks[-1].notice is None


async def test_an_ordinary_restart_is_not_worth_a_word(
    own_postgres: PostgresServer, database: str
) -> None:
    url = reader_url(own_postgres, database)
    cursor = await begin(url)
    before = await record(own_postgres, database, 5)
    chunks = await changes(url, cursor)
    assert ids(chunks) == sorted(before)
    own_postgres.restart()
    new = await record(own_postgres, database, 5)
    chunks = await changes(url, chunks[-1].cursor)
    assert ids(chunks) == sorted(new)
    assert chunks[-1].notice is None and chunks[-1].exact


def test_backfill_goes_on_after_a_restored_backup(
    own_postgres: PostgresServer, database: str
) -> None:
    """A copy of the data folder, taken before the last commits: the same timeline."""
    env = {"DATABASE_URL": reader_url(own_postgres, database)}
    asyncio.run(record(own_postgres, database, 5))
    own_postgres.stop()
    backup = own_postgres.folder / "backup"
    shutil.copytree(own_postgres._data, backup)
    own_postgres.start()
    first = run_lykke("backfill", USER, env=env)
    assert first.status == 0
    asyncio.run(record(own_postgres, database, 20))
    assert len(run_lykke("backfill", USER, env=env).rows) == 20
    own_postgres.kill()
    shutil.rmtree(own_postgres._data)
    shutil.move(backup, own_postgres._data)
    own_postgres._give_away(own_postgres._data)
    own_postgres.start()
    new = asyncio.run(record(own_postgres, database, NEW))
    result = run_lykke("backfill", USER, env=env)
    assert {row["id"] for row in result.rows} >= new
    assert "lost its last commits" in result.stderr
