"""A table that is too large to be read at once: page by page, while it is written to."""

import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from lykke_cli.application.gateways.history_protocol import Cursor, Selection
from lykke_cli.infrastructure.postgresql import changes as postgres_changes
from lykke_cli.infrastructure.postgresql import slices as postgres_slices
from lykke_cli.infrastructure.postgresql import storage
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.builders import INSERT, entity, row
from tests.databases import page_by_page
from tests.tables import EVERYBODY, LONG_AGO, Reader, Table, empty_table

STEPS = 40


@pytest.fixture
async def table(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Table]:
    page_by_page(monkeypatch)
    async with empty_table(postgres_url) as table:
        yield table


@pytest.fixture
def reader(postgres_reader_url: str) -> Reader:
    return Reader(postgres_reader_url)


async def test_what_lies_where_nobody_looks_first_is_found_page_by_page(
    table: Table, reader: Reader
) -> None:
    await table.fill()
    await reader.begin()
    last = await table.write(age=LONG_AGO)
    hidden = await table.write_at_the_beginning()
    await reader.near()
    assert reader.found == {last: 1}  # written last, though it occurred long ago
    assert await reader.everything() - 1 == await table.pages() > 10
    assert reader.found == {last: 1, hidden: 1}
    await reader.near()
    await reader.everything()
    assert reader.found.total() == 2


async def test_one_users_entry_that_was_written_last_is_near_at_first(
    table: Table, postgres_reader_url: str
) -> None:
    await table.fill()
    new = entity(uuid.uuid4(), occurred_at=datetime.now(UTC) - LONG_AGO)
    selection = Selection(user_ids={new.user_id})
    async with PostgresHistory(postgres_reader_url) as history:
        [begun] = [chunk async for chunk in history.begin(selection)]
    await table.execute(INSERT, *row(new))
    async with PostgresHistory(postgres_reader_url) as history:
        read = history.changes(selection, begun.cursor, recent_only=True, portion=True)
        near = [chunk async for chunk in read]
    assert [one.id for chunk in near for one in chunk.rows] == [str(new.id)]


async def test_portions_go_on_where_the_last_one_ended_whatever_is_read_between(
    table: Table, reader: Reader
) -> None:
    await table.fill()
    await reader.begin()
    hidden = await table.write_at_the_beginning()
    pages, portions = await table.pages(), 1
    while (last := await reader.portion()).goes_on:
        portions += 1
        assert last.covered_from is not None and last.covered_from.startswith("9999")
        new = await table.write()
        assert not (await reader.near()).goes_on
        assert reader.found[new] == 1
    assert portions - 1 == pages >= 10
    assert reader.found[hidden] == 1


async def test_no_snapshot_is_held_between_portions(table: Table, postgres_reader_url: str) -> None:
    await table.fill()
    async with PostgresHistory(postgres_reader_url) as history:
        [begun] = [chunk async for chunk in history.begin(EVERYBODY)]
        cursor = begun.cursor
        for _ in range(3):
            [chunk] = [one async for one in history.changes(EVERYBODY, cursor, portion=True)]
            cursor = chunk.cursor
            held = (
                "SELECT state, backend_xmin FROM pg_stat_activity WHERE application_name = 'lykke'"
            )
            assert [tuple(record) for record in await table.fetch(held)] == [("idle", None)]


async def test_what_is_committed_while_it_reads_is_left_to_the_next_read_and_found(
    table: Table, reader: Reader
) -> None:
    """The row lies on a page that was looked at before its transaction ended."""
    await table.fill()
    await reader.begin()
    other = await table.begin()
    await table.execute("DELETE FROM audit_logs WHERE ctid < '(1,0)'")
    await table.execute("VACUUM audit_logs")
    late = await table.write(age=LONG_AGO, by=other)
    await table.execute("SELECT pg_current_xact_id()")  # a later one has ended
    while (await reader.portion()).goes_on:
        if not reader.found:
            await other.execute("COMMIT")
    await reader.everything()
    assert reader.found == {late: 1}
    await other.close()


async def test_rows_that_are_moved_while_it_reads_are_not_missed(
    table: Table, reader: Reader
) -> None:
    """VACUUM FULL puts what is at the end where it has been already."""
    ids = await table.fill()
    await reader.begin()
    await table.execute("DELETE FROM audit_logs WHERE ctid < '(1,0)'")
    hidden = [await table.write(age=LONG_AGO) for _ in range(8)]
    for _ in range(5):
        await reader.portion()
    await table.execute("DELETE FROM audit_logs WHERE id = ANY($1)", ids)
    await table.execute("VACUUM FULL audit_logs")
    await reader.everything()
    assert reader.found == dict.fromkeys(hidden, 1)


async def test_who_begins_is_told_only_of_what_comes_after(table: Table, reader: Reader) -> None:
    """Other transactions are open, so that the snapshot alone does not tell what was there."""
    other = await table.begin()
    await other.execute("SELECT pg_current_xact_id()")
    await table.fill()
    await reader.begin()
    new = await table.write()
    await other.execute("COMMIT")
    await reader.near()
    await reader.everything()
    assert reader.found == {new: 1}
    await other.close()


async def test_what_is_asked_for_from_a_time_on_is_read_by_the_index(
    table: Table, reader: Reader
) -> None:
    old = [await table.write(age=LONG_AGO) for _ in range(3)]
    since = datetime.now(UTC) - timedelta(minutes=1)
    new = await table.fill(10)
    await reader.begin(since)
    assert reader.found == dict.fromkeys(new, 1)
    await reader.everything()
    assert reader.found == dict.fromkeys(new, 1) and old


async def test_a_read_that_is_no_portion_is_whole(
    table: Table, reader: Reader, postgres_reader_url: str
) -> None:
    await table.fill()
    await reader.begin()
    hidden = await table.write_at_the_beginning()
    await reader.portion()  # which it does not go on with
    async with PostgresHistory(postgres_reader_url) as history:
        chunks = [chunk async for chunk in history.changes(EVERYBODY, reader.cursor)]
    assert [row.id for chunk in chunks for row in chunk.rows] == [hidden]
    assert not chunks[-1].goes_on and chunks[-1].covered_from is None


@pytest.mark.timeout(300)
async def test_what_the_slices_have_found_is_read_in_portions_too(
    table: Table, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_changes, "LONGEST", 0.0)
    await table.fill()
    await reader.begin()
    hidden = [await table.write_at_the_beginning()]
    hidden += [await table.write(age=n * LONG_AGO) for n in range(1, 20)]
    places = list[tuple[Cursor, Counter[str]]]()
    while (await reader.portion()).goes_on:
        places.append((reader.cursor, Counter(reader.found)))
    assert reader.found == dict.fromkeys(hidden, 1)
    assert len({found.total() for _, found in places}) > 5
    for place, found in places[::4]:
        reader.cursor, reader.found = place, found
        await reader.everything()
        assert reader.found == dict.fromkeys(hidden, 1)


async def test_a_portion_that_takes_long_to_come_to_what_is_left_leaves_less_to_pass_over(
    table: Table, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each one would pass over all that those before it have read."""
    await table.fill()
    await reader.begin()
    hidden = [await table.write(age=LONG_AGO - n * timedelta(minutes=5)) for n in range(20)]
    monkeypatch.setattr(postgres_changes, "LONGEST", 0.0)
    monkeypatch.setattr(postgres_changes, "FAR", -1.0)
    begins = list[str]()
    while (await reader.portion()).goes_on:
        begins += [low for low, _ in reader.cursor.data["sweep"][6][:1]]
    assert len({*begins}) >= 5 and begins == sorted(begins)
    assert reader.found == dict.fromkeys(hidden, 1)
    await reader.everything()
    [[_, regions]] = reader.cursor.data["groups"]
    assert len(regions) == 1  # those of the portions are one again


async def test_a_place_stays_small_however_many_portions_read_what_was_found(
    table: Table, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await table.fill()
    await reader.begin()
    hidden = [await table.write(age=LONG_AGO) for _ in range(20)]
    monkeypatch.setattr(postgres_changes, "LONGEST", 0.0)
    while (await reader.portion()).goes_on:
        [[_, regions]] = reader.cursor.data["groups"]
        assert len(regions) <= 2
    assert reader.found == dict.fromkeys(hidden, 1)


async def test_what_was_written_last_and_occurred_over_many_hours_is_left_to_the_slices(
    table: Table, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of what is near would go through all that occurred between."""
    await table.fill()
    await reader.begin()
    monkeypatch.setattr(storage, "LAST_PAGES", 4)
    hour = (datetime.now(UTC) - LONG_AGO).replace(minute=0)
    moments = [hour + timedelta(hours=h, minutes=m) for h in (0, 5) for m in (5, 55)]
    written = [await table.write(age=datetime.now(UTC) - moment) for moment in moments]
    assert (await reader.near()).goes_on
    assert reader.found == dict.fromkeys(written[2:], 1)
    await reader.everything()
    assert reader.found == dict.fromkeys(written, 1)
    assert not (await reader.near()).goes_on


async def test_portions_say_whether_they_began_anew(table: Table, reader: Reader) -> None:
    await table.fill()
    await reader.begin()
    assert [(await reader.portion()).anew for _ in range(4)] == [True, False, False, False]
    await reader.everything()
    assert (await reader.portion()).anew


async def test_the_planner_is_asked_once_for_all_portions(
    table: Table, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    are_needed, asked = postgres_slices.Slices.are_needed, list[Selection]()

    async def ask(self: postgres_slices.Slices, *args: Any) -> bool:
        asked.append(args[1])
        return await are_needed(self, *args)

    await table.fill()
    await reader.begin()
    hidden = await table.write_at_the_beginning()
    monkeypatch.setattr(postgres_slices.Slices, "are_needed", ask)
    assert await reader.everything() > 10
    assert asked == [EVERYBODY]
    assert reader.found == {hidden: 1}


async def test_few_rows_that_no_index_leads_to_are_looked_for_page_by_page(
    table: Table, postgres_reader_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one statement would read a table of any size for them."""
    monkeypatch.setattr(postgres_slices, "LARGE_ROWS", 10**9)
    await table.fill()
    selection = Selection(user_ids=None, entity_type="x")
    async with PostgresHistory(postgres_reader_url) as history:
        [begun] = [chunk async for chunk in history.begin(selection)]
        for cost, goes_on in (10.0**9, False), (0.0, True):
            monkeypatch.setattr(postgres_slices, "LARGE_COST", cost)
            *_, last = [one async for one in history.changes(selection, begun.cursor, portion=True)]
            assert last.goes_on is goes_on


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_meanwhile_each_row_is_found_once(
    table: Table, reader: Reader, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are written, in open transactions and under savepoints too, deleted, moved."""
    chance = random.Random(seed)
    monkeypatch.setattr(postgres_changes, "LONGEST", chance.choice([0.0, 5.0]))
    await table.fill(20)
    await reader.begin()
    written, uncommitted = list[str](), dict[asyncpg.Connection, list[str]]()
    deleted = set[str]()
    for _ in range(STEPS):
        age = chance.choice([timedelta(0), timedelta(minutes=20), LONG_AGO])
        match chance.choice("wwwwbbccdvmfnpppp"):
            case "w":
                written.append(await table.write(age=age))
            case "b" if len(uncommitted) < 3:
                other = await table.begin()
                ids = uncommitted[other] = [await table.write(age=age, by=other)]
                await other.execute("SAVEPOINT a")
                ids.append(await table.write(age=LONG_AGO, by=other))
            case "c" if uncommitted:
                other = chance.choice(list(uncommitted))
                ids = uncommitted.pop(other)
                ends = chance.choice(["COMMIT", "COMMIT", "ROLLBACK"])
                await other.execute(ends)
                written += ids if ends == "COMMIT" else []
                await other.close()
            case "d":
                page = chance.randrange(8)
                gone = await table.fetch(
                    "DELETE FROM audit_logs WHERE ctid >= $1::text::tid AND ctid < $2::text::tid "
                    "RETURNING id::text",
                    f"({page},0)",
                    f"({page + 1},0)",
                )
                deleted |= {id for (id,) in gone}
            case "v":
                await table.execute("VACUUM audit_logs")
            case "m" if not uncommitted:
                await table.execute("VACUUM FULL audit_logs")
            case "f" if not uncommitted:
                await table.execute("CLUSTER audit_logs USING audit_logs_occurred_at_idx")
            case "n":
                await reader.near()
            case "p":
                await reader.portion()
            case _:
                pass
    for other, ids in uncommitted.items():
        await other.execute("COMMIT")
        await other.close()
        written += ids
    await reader.everything()  # one that was under way
    await reader.everything()
    assert {*written} - deleted <= reader.found.keys() <= {*written}
    assert set(reader.found.values()) <= {1}
