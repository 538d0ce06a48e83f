"""What every history does: on SQLite and on PostgreSQL in its variants, with SELECT alone."""

import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from lykke_cli.application.errors import LoginRefused, SchemaMismatch, ServerUnavailable
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryProtocol,
    HistoryRow,
    Selection,
)
from lykke_cli.application.messages import Entry, UnreadableEntry
from lykke_cli.bootstrap import make_history
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.database import chunk_size
from tests.builders import entity, insert
from tests.contract.conftest import Urls, urls_of
from tests.databases import page_by_page
from tests.servers import PostgresServer

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass
class Database:
    history: HistoryProtocol
    url: str


@pytest.fixture(params=["sqlite", "timestamp", "timestamptz and date", "in slices"])
def urls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Urls:
    """As everywhere; and where every table is so large that it is read page by page."""
    if request.param != "in slices":
        return urls_of(request, request.param)
    page_by_page(monkeypatch)
    return urls_of(request, "timestamp")


@pytest.fixture
async def database(urls: Urls) -> AsyncIterator[Database]:
    async with make_history(Settings(database_url=urls.reader)) as history:
        yield Database(history, urls.owner)


@pytest.fixture
def user() -> UUID:
    return uuid.uuid4()


async def chunks_of(history: HistoryProtocol, *args: object, **kw: object) -> list[HistoryChunk]:
    return [chunk async for chunk in history.begin(*args, **kw)]  # type: ignore[arg-type]


async def changes(
    history: HistoryProtocol, selection: Selection, cursor: Cursor, *, recent_only: bool = False
) -> tuple[list[str], Cursor]:
    """The ids of what was committed since, and the next cursor; portion by portion."""
    chunks = list[HistoryChunk]()
    while not chunks or chunks[-1].goes_on:
        portion = history.changes(selection, cursor, recent_only=recent_only, portion=True)
        chunks += [chunk async for chunk in portion]
        cursor = chunks[-1].cursor
    return ids(chunks), cursor


def ids(chunks: Sequence[HistoryChunk]) -> list[str]:
    return [row.id for chunk in chunks for row in chunk.rows]


def ids_of(entities: Sequence[AuditLogEntity]) -> list[str]:
    return [str(e.id) for e in entities]


def at(minute: float, user: UUID, **fields: object) -> AuditLogEntity:
    return entity(user, occurred_at=NOON + timedelta(minutes=minute), **fields)  # type: ignore[arg-type]


async def test_an_entry_comes_back_as_it_was(database: Database, user: UUID) -> None:
    full = at(
        0,
        user,
        activity_type="TaskCompletedEvent",
        meta={"n": 1, "x": {"y": [None, "æ\n"]}},
        entity_id=uuid.uuid4(),
        entity_type="task",
    )
    bare = at(1, user)
    await insert(database.url, [full, bare])
    [chunk, *_] = [
        c for c in await chunks_of(database.history, Selection(user_ids={user}), last=5) if c.rows
    ]
    first, second = chunk.rows
    assert isinstance(first, Entry) and isinstance(second, Entry)
    assert first.to_dict() == {
        "id": str(full.id),
        "user_id": str(user),
        "activity_type": "TaskCompletedEvent",
        "occurred_at": "2026-05-01T12:00:00.000000Z",
        "entity_id": str(full.entity_id),
        "entity_type": "task",
        "meta": {"n": 1, "x": {"y": [None, "æ\n"]}},
    }
    assert second.to_dict()["meta"] == {}


async def test_begin_prints_nothing_unless_asked(database: Database, user: UUID) -> None:
    await insert(database.url, [at(0, user)])
    chunks = await chunks_of(database.history, Selection(user_ids={user}))
    assert ids(chunks) == []
    assert chunks[-1].last


async def test_begin_since_is_inclusive_and_in_order(database: Database, user: UUID) -> None:
    entities = [at(minute, user) for minute in (3, 1, 2, 0)]
    await insert(database.url, entities)
    chunks = await chunks_of(
        database.history, Selection(user_ids={user}), since=NOON + timedelta(minutes=1)
    )
    assert ids(chunks) == ids_of([entities[1], entities[2], entities[0]])
    assert [chunk.last for chunk in chunks][-1]


@pytest.mark.parametrize(("last", "expected"), [(0, []), (2, [2, 3]), (9, [0, 1, 2, 3])])
async def test_begin_with_the_newest(
    database: Database, user: UUID, last: int, expected: list[int]
) -> None:
    entities = [at(minute, user) for minute in (0, 1, 2, 2)]
    entities[2:] = sorted(entities[2:], key=lambda e: e.id)
    await insert(database.url, entities)
    await insert(database.url, [at(9, uuid.uuid4())])
    chunks = await chunks_of(database.history, Selection(user_ids={user}), last=last)
    assert ids(chunks) == ids_of([entities[i] for i in expected])


@pytest.mark.parametrize("recent_only", [False, True])
async def test_changes_are_what_was_committed_since(
    database: Database, user: UUID, recent_only: bool
) -> None:
    selection = Selection(user_ids={user})
    now = datetime.now(UTC)
    await insert(database.url, [entity(user, occurred_at=now)])
    cursor = (await chunks_of(database.history, selection))[-1].cursor
    found, cursor = await changes(database.history, selection, cursor, recent_only=recent_only)
    assert found == []
    new = [entity(user, occurred_at=now - timedelta(minutes=n)) for n in (1, 2)]
    await insert(database.url, new)
    found, cursor = await changes(database.history, selection, cursor, recent_only=recent_only)
    assert found == ids_of(new[::-1])
    assert (await changes(database.history, selection, cursor, recent_only=recent_only))[0] == []


async def test_what_is_back_dated_by_days_is_a_change_all_the_same(
    database: Database, user: UUID
) -> None:
    selection = Selection(user_ids={user})
    await insert(database.url, [entity(user)])
    cursor = (await chunks_of(database.history, selection))[-1].cursor
    back_dated = entity(user, occurred_at=datetime.now(UTC) - timedelta(days=30))
    await insert(database.url, [back_dated])
    # A recent read may pass it over, but then its cursor must not claim to cover it.
    recent, cursor = await changes(database.history, selection, cursor, recent_only=True)
    full, _ = await changes(database.history, selection, cursor)
    assert [*recent, *full] == [str(back_dated.id)]


async def test_a_read_goes_on_from_any_of_its_chunks(database: Database, user: UUID) -> None:
    entities = [at(n, user) for n in range(25)]
    await insert(database.url, entities)
    database.history._chunk_rows = 10  # type: ignore[attr-defined]
    selection = Selection(user_ids={user})
    chunks = await chunks_of(database.history, selection, since=NOON)
    for stop in range(len(chunks)):
        before = ids(chunks[: stop + 1])
        later = await insert_one_more(database, user, stop)
        after, _ = await changes(database.history, selection, chunks[stop].cursor)
        assert sorted([*before, *after]) == sorted(ids_of([*entities, *later]))


async def test_large_rows_come_few_at_a_time(
    database: Database, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first on, and in the midst of small ones too; they are what they were."""
    monkeypatch.setattr(chunk_size, "CHUNK_BYTES", 60_000)
    large, small = {"t": "x" * 20_000}, {"t": "y" * 100}
    entities = [at(n, user, meta=large if n < 20 or n % 50 == 0 else small) for n in range(300)]
    await insert(database.url, entities)
    selection = Selection(user_ids={user})
    streamed = [list(part) async for part in database.history.stream(selection, since=NOON)]
    chunks = await chunks_of(database.history, selection, since=NOON)
    for parts in (streamed, [chunk.rows for chunk in chunks if chunk.rows]):
        rows = [row for part in parts for row in part]
        assert [row.to_dict()["meta"] for row in rows if isinstance(row, Entry)] == [
            dict(e.meta) for e in entities
        ]
        bytes_of = [sum(len(row.to_json()) for row in part) for part in parts]
        assert max(bytes_of) < 100_000
        assert max(len(part) for part in parts) > 50


_extra: dict[UUID, list[AuditLogEntity]] = {}


async def insert_one_more(database: Database, user: UUID, number: int) -> list[AuditLogEntity]:
    """One committed since, back-dated into the middle of what was read."""
    made = _extra.setdefault(user, [])
    made.append(at(number * 3 + 0.5, user))
    await insert(database.url, made[-1:])
    return made


async def test_verify_tells_covered_new_and_absent_apart(database: Database, user: UUID) -> None:
    selection = Selection(user_ids={user})
    old, new = entity(user), entity(user)
    await insert(database.url, [old])
    cursor = (await chunks_of(database.history, selection))[-1].cursor
    await insert(database.url, [new])
    absent = str(uuid.uuid4())
    ids = [str(old.id), str(new.id), absent]
    assert await database.history.verify(selection, cursor, ids) == {str(new.id), absent}


async def test_a_selection_narrows(database: Database, user: UUID) -> None:
    thing = uuid.uuid4()
    wanted = at(0, user, activity_type="A", entity_type="task", entity_id=thing)
    others = [
        at(1, user, activity_type="B", entity_type="task", entity_id=thing),
        at(2, user, activity_type="A", entity_type="x", entity_id=thing),
        at(3, user, activity_type="A", entity_type="task", entity_id=uuid.uuid4()),
        at(4, uuid.uuid4(), activity_type="A", entity_type="task", entity_id=thing),
    ]
    await insert(database.url, [wanted, *others])
    selection = Selection(
        user_ids={user}, activity_types=("A", "C"), entity_type="task", entity_id=thing
    )
    assert await streamed(database.history, selection) == ids_of([wanted])
    assert await database.history.count(selection) == 1
    assert await database.history.count(Selection(user_ids=None)) == 5


async def streamed(history: HistoryProtocol, selection: Selection, **options: object) -> list[str]:
    found: list[HistoryRow] = []
    async for entries in history.stream(selection, **options):  # type: ignore[arg-type]
        found += entries
    return [entry.id for entry in found]


async def test_a_stream_is_bounded_and_ordered(database: Database, user: UUID) -> None:
    entities = [at(n, user) for n in range(6)]
    await insert(database.url, entities[::-1])
    selection = Selection(user_ids={user})
    between = {"since": NOON + timedelta(minutes=1), "until": NOON + timedelta(minutes=4)}
    assert await streamed(database.history, selection, **between) == ids_of(entities[1:4])
    assert await streamed(database.history, selection, **between, limit=2) == ids_of(entities[1:3])
    assert await streamed(database.history, selection, **between, last=2) == ids_of(entities[2:4])
    assert await database.history.count(selection, **between) == 3


@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_stream_is_read_page_by_page_either_way(
    database: Database, user: UUID, newest_first: bool
) -> None:
    """Also where several entries are of one moment, and after one that is not there any more."""
    entities = [at(n // 3, user) for n in range(10)]
    await insert(database.url, entities)
    ordered = sorted(entities, key=lambda e: (e.occurred_at, str(e.id)), reverse=newest_first)
    selection = Selection(user_ids={user})
    options: dict[str, object] = {"newest_first": newest_first, "limit": 2}
    found: list[str] = []
    while page := await streamed(database.history, selection, **options):
        found += page
        last = next(e for e in entities if str(e.id) == page[-1])
        options["after"] = (last.occurred_at, page[-1])
    assert found == ids_of(ordered)
    within = {"since": NOON + timedelta(minutes=1), "until": NOON + timedelta(minutes=3)}
    first_of_all = "ffffffff-ffff-ffff-ffff-ffffffffffff" if newest_first else str(uuid.UUID(int=0))
    absent = (NOON + timedelta(minutes=2), first_of_all)
    wanted = [e for e in ordered if e.occurred_at == absent[0]]
    rest = [e for e in ordered if e.occurred_at < absent[0] and e.occurred_at > NOON]
    assert await streamed(
        database.history, selection, **within, newest_first=newest_first, after=absent
    ) == ids_of(wanted + (rest if newest_first else []))


@pytest.mark.parametrize("data", [{}, {"kind": "other"}, {"kind": "sqlite", "regions": [1]}])
async def test_a_foreign_cursor_is_noticed(
    database: Database, user: UUID, data: dict[str, object]
) -> None:
    selection = Selection(user_ids={user})
    await insert(database.url, [entity(user)])
    chunks = [c async for c in database.history.changes(selection, Cursor(data))]
    assert chunks[-1].notice is not None
    assert [chunk.exact for chunk in chunks] == [False] * len(chunks)
    after = [c async for c in database.history.changes(selection, chunks[-1].cursor)]
    assert {chunk.exact for chunk in after} == {True}


@pytest.mark.parametrize("damage", [None, 1.5, 10**30, "x", "0001-01-01T00:00:00+14:00"])
async def test_a_damaged_cursor_ends_no_read(
    database: Database, user: UUID, damage: object
) -> None:
    """Whichever part of it is damaged."""
    selection = Selection(user_ids={user})
    await insert(database.url, [entity(user), entity(user)])
    [begun] = [chunk async for chunk in database.history.begin(selection)]
    cursors = list(damaged(begun.cursor.data, damage))
    assert len(cursors) > 10
    for data in cursors:
        chunks = [c async for c in database.history.changes(selection, Cursor(data))]
        assert chunks[-1].last


def damaged(data: Any, damage: object) -> Iterator[Any]:
    """The same with one part after the other replaced."""
    parts = data if isinstance(data, dict) else dict(enumerate(data))
    for key, part in parts.items():
        inner = damaged(part, damage) if isinstance(part, dict | list) else iter(())
        for changed in (damage, *inner):
            whole = parts | {key: changed}
            yield whole if isinstance(data, dict) else list(whole.values())


async def test_a_missing_table_is_a_clear_error(
    request: pytest.FixtureRequest, postgres_server: PostgresServer
) -> None:
    async with make_history(Settings(database_url=postgres_server.url("template1"))) as history:
        with pytest.raises(SchemaMismatch, match="audit_logs"):
            await history.count(Selection(user_ids=None))


async def test_a_wrong_password_is_a_clear_error(postgres_server: PostgresServer) -> None:
    url = postgres_server.url("postgres", "reader", "s3cret-guess")
    async with make_history(Settings(database_url=url)) as history:
        with pytest.raises(LoginRefused) as caught:
            await history.count(Selection(user_ids=None))
    assert "s3cret-guess" not in str(caught.value)


async def test_a_missing_sqlite_file_is_not_created(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    async with make_history(Settings(database_url=url)) as history:
        with pytest.raises(ServerUnavailable, match=r"none\.db"):
            await history.count(Selection(user_ids=None))


OUTSIDE = ["20251-05-01 12:00:00", "0044-03-15 12:00:00 BC", "infinity", "-infinity"]


async def test_what_occurred_outside_of_the_calendar_is_told_once_and_reading_goes_on(
    database: Database, user: UUID
) -> None:
    """Such as milliseconds taken for seconds; the other entries are read as ever."""
    selection = Selection(user_ids={user})
    start = (await chunks_of(database.history, selection))[-1].cursor
    good = [at(minute, user) for minute in range(5)]
    await insert(database.url, good)
    odd = [await insert_at(database.url, user, text) for text in OUTSIDE]

    database.history._chunk_rows = 2  # type: ignore[attr-defined]
    parts = [chunk async for chunk in database.history.changes(selection, start)]
    assert sorted(ids(parts)) == sorted([*ids_of(good), *odd])
    for stop, chunk in enumerate(parts):  # wherever it ends, nothing of it is lost
        later, _ = await changes(database.history, selection, chunk.cursor)
        assert sorted([*ids(parts[: stop + 1]), *later]) == sorted([*ids_of(good), *odd])
    assert (await changes(database.history, selection, parts[-1].cursor))[0] == []

    rows = [row async for part in database.history.stream(selection) for row in part]
    unreadable = [row for row in rows if isinstance(row, UnreadableEntry)]
    assert sorted(row.id for row in unreadable) == sorted(odd)
    assert all("years 1 to 9999" in row.reason for row in unreadable)
    told = {orjson.loads(row.raw)["occurred_at"].replace("+00", "") for row in unreadable}
    assert told == set(OUTSIDE)
    printed = (await lines(database.history, selection)).splitlines()
    assert printed == [row.to_json() for row in rows]


async def test_a_range_and_a_start_agree_on_what_occurred_outside_of_the_calendar(
    database: Database, user: UUID
) -> None:
    """What is later than every year is after any `since`, and the newest; what is earlier never."""
    good = [at(minute, user) for minute in range(5)]
    await insert(database.url, good)
    edges = ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"]
    for text in [*OUTSIDE, *OUTSIDE, *edges]:
        await insert_at(database.url, user, text)
    database.history._chunk_rows = 2  # type: ignore[attr-defined]
    selection = Selection(user_ids={user})
    everything = await streamed(database.history, selection)
    assert len(set(everything)) == len(everything) == 15

    since = NOON + timedelta(minutes=2)
    late = await streamed(database.history, selection, since=since)
    assert late == everything[-len(late) :] and set(ids_of(good[2:])) < set(late)
    chunks = await chunks_of(database.history, selection, since=since)
    assert ids(chunks) == late
    for stop, chunk in enumerate(chunks):
        later, _ = await changes(database.history, selection, chunk.cursor)
        assert ids(chunks[: stop + 1]) + later == late
    assert await database.history.count(selection, since=since) == len(late)
    printed = (await lines(database.history, selection, since=since)).splitlines()
    assert [orjson.loads(line)["id"] for line in printed] == late

    for number in range(1, 17):
        newest = await chunks_of(database.history, selection, last=number)
        assert ids(newest) == everything[-number:]
        assert await streamed(database.history, selection, limit=number) == everything[:number]
        assert await streamed(database.history, selection, last=number) == everything[-number:]
    both = await chunks_of(database.history, selection, since=since, last=4)
    assert ids(both) == late[-4:]


async def test_what_occurs_after_the_calendar_is_a_recent_change_too(
    database: Database, user: UUID
) -> None:
    selection = Selection(user_ids={user})
    cursor = (await chunks_of(database.history, selection))[-1].cursor
    new = await insert_at(database.url, user, "20251-05-01 12:00:00")
    found, cursor = await changes(database.history, selection, cursor, recent_only=True)
    assert found == [new]
    assert (await changes(database.history, selection, cursor))[0] == []


async def insert_at(url: str, user: UUID, occurred_at: str) -> str:
    """A row as an application with a fault in it writes it; returns its id."""
    id = str(uuid.uuid4())
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            file.execute(
                "INSERT INTO audit_logs (id, user_id, activity_type, occurred_at, date) "
                "VALUES (?, ?, 'X', ?, '2026-05-01')",
                (id, str(user), occurred_at),
            )
        return id
    connection = await asyncpg.connect(url)
    await connection.execute("SET TimeZone = 'UTC'")
    time = await connection.fetchval(
        "SELECT data_type FROM information_schema.columns "
        "WHERE table_name = 'audit_logs' AND column_name = 'occurred_at'"
    )
    has_date = await connection.fetchval(
        "SELECT count(*) FROM information_schema.columns "
        "WHERE table_name = 'audit_logs' AND column_name = 'date'"
    )
    date = (", date", ", '2026-05-01'") if has_date else ("", "")
    await connection.execute(
        f"INSERT INTO audit_logs (id, user_id, activity_type, occurred_at{date[0]}) "  # noqa: S608
        f"VALUES ($1, $2, 'X', $3::text::{time}{date[1]})",
        id,
        user,
        occurred_at,
    )
    await connection.close()
    return id


async def lines(history: HistoryProtocol, selection: Selection, **bounds: datetime) -> bytes:
    return b"".join([block async for block in history.lines(selection, **bounds)])


async def test_lines_are_what_live_entries_print(database: Database, user: UUID) -> None:
    """To the byte, for whatever a row can hold."""
    awkward = "".join(map(chr, range(1, 0x20))) + '"\\/\x7f\x85\u2028\u202e\U0001f600æ%s{}'
    entities = [
        at(0, user, activity_type=awkward, entity_type=awkward, meta={awkward: [awkward]}),
        at(1 / 7, user, entity_id=uuid.uuid4(), entity_type="", meta={"n": 1.50, "x": {"y": None}}),
        at(1, user, activity_type=" "),
    ]
    await insert(database.url, [*entities, at(2, uuid.uuid4())])
    [entries] = [part async for part in database.history.stream(Selection(user_ids={user}))]
    assert len(entries) == 3
    expected = b"".join(entry.to_json() + b"\n" for entry in entries)
    assert await lines(database.history, Selection(user_ids={user})) == expected


async def test_lines_of_many_rows_are_in_order(database: Database, user: UUID) -> None:
    """More than one range of them, and more at one moment than a range has."""
    entities = [at(max(0, n - 900) // 3, user) for n in range(1800)]
    await insert(database.url, entities)
    expected = sorted((e.occurred_at, str(e.id)) for e in entities)
    printed = await lines(database.history, Selection(user_ids={user}))
    assert [line[7:43].decode() for line in printed.splitlines()] == [id for _, id in expected]


async def test_lines_are_filtered(database: Database, user: UUID) -> None:
    wanted = at(1, user, activity_type="A,{}", entity_id=uuid.uuid4(), entity_type="x' OR 1=1")
    fields = {"entity_id": wanted.entity_id, "entity_type": wanted.entity_type}
    others = [
        at(0, user, activity_type="A,{}", **fields),
        at(2, user, activity_type="A,{}", **fields),
        at(1, user, activity_type="B", **fields),
        at(1, user, activity_type="A,{}", entity_id=uuid.uuid4(), entity_type="x' OR 1=1"),
        at(1, user, activity_type="A,{}", entity_id=wanted.entity_id, entity_type="x"),
    ]
    await insert(database.url, [wanted, *others])
    selection = Selection(
        user_ids={user},
        activity_types=("A,{}", "none"),
        entity_id=wanted.entity_id,
        entity_type=wanted.entity_type,
    )
    printed = await lines(
        database.history,
        selection,
        since=wanted.occurred_at,
        until=wanted.occurred_at + timedelta(minutes=1),
    )
    assert [line[7:43].decode() for line in printed.splitlines()] == [str(wanted.id)]
