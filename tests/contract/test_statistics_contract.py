"""What is counted is the same on SQLite and on PostgreSQL in its variants, with SELECT alone."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from lykke_cli.application.errors import LoginRefused, SchemaMismatch, ServerUnavailable
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.gateways.statistics_protocol import (
    LONGEST_TYPE,
    Scope,
    StatisticsProtocol,
    Summary,
)
from lykke_cli.application.histogram import read_histogram
from lykke_cli.application.messages import format_time
from lykke_cli.application.wall_clock import BUCKETS, Bucket, WallClock, hour_of_week
from lykke_cli.bootstrap import make_statistics
from lykke_cli.infrastructure.configuration.settings import Settings
from tests.builders import entity, insert
from tests.contract.conftest import Urls
from tests.servers import PostgresServer

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)  # a Friday
BERLIN = ZoneInfo("Europe/Berlin")


@dataclass
class Database:
    url: str
    reader_url: str

    def statistics(self) -> StatisticsProtocol:
        return make_statistics(Settings(database_url=self.reader_url))


@pytest.fixture
def database(urls: Urls) -> Database:
    return Database(urls.owner, urls.reader)


@pytest.fixture
def user() -> UUID:
    return uuid.uuid4()


def of(user: UUID, **fields: object) -> Scope:
    return Scope(selection=Selection(user_ids={user}), **fields)  # type: ignore[arg-type]


async def test_a_summary(database: Database, user: UUID) -> None:
    moments = [NOON + timedelta(hours=n, microseconds=n) for n in range(3)]
    await insert(
        database.url,
        [entity(user, "AABB"[n], occurred_at=moment) for n, moment in enumerate(moments)]
        + [entity(occurred_at=NOON)],
    )
    async with database.statistics() as statistics:
        assert await statistics.summary(of(user)) == Summary(3, 2, moments[0], moments[2])
        later = of(user, since=moments[1], until=moments[2])
        assert await statistics.summary(later) == Summary(1, 1, moments[1], moments[1])
        assert await statistics.summary(of(uuid.uuid4())) == Summary(0, 0, None, None)


async def test_filters_narrow(database: Database, user: UUID) -> None:
    thing = uuid.uuid4()
    wanted = {"activity_type": "A", "entity_type": "task", "entity_id": thing}
    others: list[dict[str, object]] = [{"activity_type": "B"}, {"entity_type": "x"}]
    others.append({"entity_id": uuid.uuid4()})
    await insert(
        database.url,
        [entity(user, **wanted), *(entity(user, **wanted | other) for other in others)],  # type: ignore[arg-type]
    )
    selection = Selection(
        user_ids={user}, activity_types=("A", "C"), entity_type="task", entity_id=thing
    )
    async with database.statistics() as statistics:
        assert (await statistics.summary(Scope(selection=selection))).entries == 1


@pytest.mark.parametrize("zone", [UTC, BERLIN, ZoneInfo("Asia/Kathmandu")])
async def test_time_is_counted_by_the_clock_on_the_wall(
    database: Database, user: UUID, zone: ZoneInfo
) -> None:
    """Every bucket and every hour of the week, across changes of the clocks and before 1970."""
    changes = [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)]
    steps = [timedelta(seconds=n) for n in (-3601, -1, 0, 1, 3599, 3600)]
    moments = [change + step for change in changes for step in steps]
    moments += [datetime(1965, 1, 3, 23, 59, 59, 999_999, tzinfo=UTC), NOON, NOON]
    moments += [datetime(2, 1, 1, tzinfo=UTC), datetime(9990, 1, 1, tzinfo=UTC)]
    await insert(database.url, [entity(user, occurred_at=moment) for moment in moments])
    clock = WallClock(zone, min(moments), max(moments))

    def walls() -> Sequence[datetime]:
        return [moment.astimezone(zone).replace(tzinfo=None) for moment in moments]

    async with database.statistics() as statistics:
        for bucket in BUCKETS:
            expected: dict[datetime, int] = {}
            for wall in walls():
                start = started(bucket, wall)
                expected[start] = expected.get(start, 0) + 1
            counts = await statistics.by_bucket(of(user), bucket, clock)
            assert {bucket.start(index): n for index, n in counts.items()} == expected, bucket
        hours: dict[int, int] = {}
        for wall in walls():
            hour = wall.weekday() * 24 + wall.hour
            hours[hour] = hours.get(hour, 0) + 1
        assert await statistics.by_hour(of(user), clock) == hours


def started(bucket: Bucket, wall: datetime) -> datetime:
    """The start of the bucket, by the calendar."""
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    if bucket.months:
        month = (wall.year * 12 + wall.month - 1) // bucket.months * bucket.months
        year, rest = divmod(month, 12)
        return datetime(year, rest + 1, 1) if year else datetime(1, 1, 3)
    if bucket.seconds > 86_400:
        return max(midnight - timedelta(days=wall.weekday()), datetime(1, 1, 3))
    length = timedelta(seconds=bucket.seconds)
    return midnight + (wall - midnight) // length * length


async def test_types_come_most_frequent_first_and_not_too_many(
    database: Database, user: UUID
) -> None:
    hostile = "日本語👩‍💻\x1b[31m[/]'\"%"
    long = "x" * 10_000
    types = [hostile, hostile, hostile, long, long, "B", "A"]
    await insert(
        database.url,
        [entity(user, each, NOON + timedelta(minutes=n)) for n, each in enumerate(types)],
    )
    async with database.statistics() as statistics:
        found = await statistics.by_type(of(user), 3)
    assert [(each.activity_type, each.entries) for each in found] == [
        (hostile, 3),
        ("x" * LONGEST_TYPE, 2),
        ("A", 1),
    ]
    assert found[0].last == NOON + timedelta(minutes=2)


async def test_the_types_in_use(database: Database, user: UUID) -> None:
    async with database.statistics() as statistics:
        assert await statistics.types(9) == []
    types = ["A", " ", "b", "A", "A%", "æ", "x" * LONGEST_TYPE, "y" * (LONGEST_TYPE + 1)]
    await insert(database.url, [entity(user, each) for each in types])
    async with database.statistics() as statistics:
        found = await statistics.types(99)
        assert len(found) == 6
        assert set(found) == set(types[:-1])
        assert set(await statistics.types(3)) < set(found)


async def test_one_block_sees_one_moment(database: Database, user: UUID) -> None:
    await insert(database.url, [entity(user)])
    async with database.statistics() as statistics:
        assert (await statistics.summary(of(user))).entries == 1
        await insert(database.url, [entity(user)])
        assert (await statistics.summary(of(user))).entries == 1


async def test_nothing_can_be_written(postgres_url: str) -> None:
    async with make_statistics(Settings(database_url=postgres_url)) as statistics:
        with pytest.raises(LoginRefused, match="read-only"):
            await statistics.fetch("DELETE FROM audit_logs")  # type: ignore[attr-defined]


async def test_a_statement_that_takes_too_long_is_ended(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lykke_cli.infrastructure.sqlite.connection.STATEMENT_TIMEOUT", 0.05)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
    with pytest.raises(ServerUnavailable, match="in time"):
        async with make_statistics(Settings(database_url=sqlite_url)) as statistics:
            await statistics.fetch(endless, {})  # type: ignore[attr-defined]


async def test_errors_are_clear(postgres_server: PostgresServer, tmp_path: object) -> None:
    for url, kind, part in [
        (postgres_server.url("template1"), SchemaMismatch, "audit_logs"),
        (postgres_server.url("postgres", "reader", "s3cret-guess"), LoginRefused, "password"),
        (f"sqlite:///{tmp_path}/none.db", ServerUnavailable, "none.db"),
    ]:
        with pytest.raises(kind, match=part) as caught:
            async with make_statistics(Settings(database_url=url)) as statistics:
                await statistics.summary(of(uuid.uuid4()))
        assert "s3cret-guess" not in str(caught.value)


def test_the_hours_of_a_week() -> None:
    monday = datetime(2026, 5, 4, tzinfo=UTC).timestamp()
    assert [hour_of_week(monday + n * 3600) for n in (-1, 0, 167, 168)] == [167, 0, 167, 0]


async def test_a_histogram_has_bars_of_one_length_that_stay_where_they_are(
    database: Database, user: UUID
) -> None:
    moments = [NOON + timedelta(seconds=n) for n in (0, 1, 59, 119, 600)]
    await insert(
        database.url,
        [entity(user, "AABAB"[n], occurred_at=moment) for n, moment in enumerate(moments)]
        + [entity(occurred_at=NOON)],
    )
    now = NOON + timedelta(minutes=10, seconds=30)
    async with database.statistics() as statistics:
        whole = (await read_histogram(statistics, of(user), 11, now)).to_dict()
        begun = of(user, since=NOON + timedelta(seconds=1), until=NOON + timedelta(seconds=119))
        part = (await read_histogram(statistics, begun, 60, now)).to_dict()
        none = (await read_histogram(statistics, of(uuid.uuid4()), 60, now)).to_dict()
    assert (whole["from"], whole["to"]) == (format_time(NOON), format_time(now))
    assert whole["step_seconds"] == 60
    assert [bar["total"] for bar in whole["counts"]] == [3, 1, *[0] * 8, 1]
    assert whole["counts"][1]["from"] == format_time(NOON + timedelta(minutes=1))
    assert whole["types"] == [
        {"activity_type": "A", "entries": 3},
        {"activity_type": "B", "entries": 2},
    ]
    assert part["step_seconds"] == 2 and len(part["counts"]) == 60
    assert sum(bar["total"] for bar in part["counts"]) == 2
    assert (none["from"], none["counts"], none["types"]) == (None, [], [])


@pytest.mark.parametrize("most", [2, 60, 1000])
async def test_a_histogram_of_all_times_has_no_more_bars_than_were_asked_for(
    database: Database, user: UUID, most: int
) -> None:
    years = (1, 1500, 1970, 2026, 9999)
    await insert(database.url, [entity(user, occurred_at=NOON.replace(year=y)) for y in years])
    always = of(user, since=datetime(1, 1, 1, tzinfo=UTC), until=datetime(9999, 12, 31, tzinfo=UTC))
    async with database.statistics() as statistics:
        found = await read_histogram(statistics, always, most, NOON)
    assert 2 <= len(found.bars) <= most and sum(bar.entries for bar in found.bars) == len(years)
