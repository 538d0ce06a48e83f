"""Users are found alike on SQLite and on PostgreSQL, with SELECT alone."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.gateways.users_protocol import ActiveUser, UsersProtocol
from lykke_cli.application.users import find_user, users_like
from lykke_cli.bootstrap import make_users
from lykke_cli.infrastructure.configuration.settings import Settings
from tests.builders import entity, insert
from tests.servers import READER_PASSWORD, PostgresServer

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
EVERYBODY = Scope(selection=Selection(user_ids=None))
ANNA, BEA, CLEO = (UUID(int=n) for n in (1, 2, 3))
EMAILS = {ANNA: "Anna@example.com", BEA: "bea_100%@example.com"}


@dataclass
class Database:
    url: str
    reader_url: str
    execute: Callable[[str], None]

    def users(self) -> UsersProtocol:
        return make_users(Settings(database_url=self.reader_url))

    def add_emails(self, id_type: str = "uuid", extra: str = "") -> None:
        """The application's table, for the reader too."""
        rows = ", ".join(f"('{user}', '{email}')" for user, email in EMAILS.items())
        self.execute(f"CREATE TABLE users (id {id_type}, email varchar, password varchar)")
        self.execute(f"INSERT INTO users (id, email) VALUES {rows}{extra}")  # noqa: S608
        if not self.url.startswith("sqlite"):
            self.execute("GRANT SELECT (id, email) ON users TO reader")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    if request.param == "sqlite":
        url = request.getfixturevalue("sqlite_url")

        def execute(sql: str) -> None:
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
                connection.execute(sql)
                connection.commit()

        return Database(url, url, execute)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    make: Callable[..., str] = request.getfixturevalue("make_postgres_database")
    name = make(timestamptz=True, date_column=True)
    reader_url = server.url(name, "reader", READER_PASSWORD)
    return Database(server.url(name), reader_url, lambda sql: server.execute(sql, name))


async def activity(database: Database) -> None:
    """Anna two entries, Bea one that is newer, Cleo the newest of another type."""
    await insert(
        database.url,
        [
            entity(ANNA, "A", NOON),
            entity(ANNA, "A", NOON + timedelta(minutes=1)),
            entity(BEA, "A", NOON + timedelta(minutes=2)),
            entity(CLEO, "B", NOON + timedelta(minutes=3)),
        ],
    )


async def test_who_was_active_last_comes_first(database: Database) -> None:
    await activity(database)
    async with database.users() as users:
        assert not await users.have_emails()
        assert await users.active(EVERYBODY, 2) == [
            ActiveUser(str(CLEO), 1, NOON + timedelta(minutes=3), None),
            ActiveUser(str(BEA), 1, NOON + timedelta(minutes=2), None),
        ]
        scope = Scope(
            selection=Selection(user_ids=None, activity_types=["A"]),
            since=NOON + timedelta(minutes=1),
            until=NOON + timedelta(minutes=2),
        )
        found = [ActiveUser(str(ANNA), 1, NOON + timedelta(minutes=1), None)]
        assert await users.active(scope, 9) == found


async def test_emails_are_shown_and_looked_for(database: Database) -> None:
    await activity(database)
    database.add_emails("varchar")
    async with database.users() as users:
        assert await users.have_emails()
        found = await users.active(EVERYBODY, 9)
        assert [each.email for each in found] == [None, EMAILS[BEA], EMAILS[ANNA]]
        for pattern, expected in {
            "anna@*": [ANNA],
            "*@EXAMPLE.com": [BEA, ANNA],
            "???_100%@*": [BEA],
            "ann_@*": [],
            "%": [],
            "' OR 1=1 --": [],
        }.items():
            found = await users.active(EVERYBODY, 9, pattern)
            assert [UUID(each.user_id) for each in found] == expected, pattern


async def test_a_text_finds_users_by_the_start_of_their_id_or_a_part_of_their_address(
    database: Database,
) -> None:
    await activity(database)
    everybody = [CLEO, BEA, ANNA]
    expected = {str(CLEO): [CLEO], CLEO.hex.upper(): [CLEO], str(CLEO)[:9]: everybody, "x": []}
    for with_emails in (False, True):
        if with_emails:
            database.add_emails()
            expected |= {"na@Exam": [ANNA], "100%": [BEA], "x": [BEA, ANNA]}
        async with database.users() as users:
            for text, found in expected.items():
                listed = await users_like(users, EVERYBODY, 9, text)
                assert [UUID(each.user_id) for each in listed] == found, text
            assert len(await users_like(users, EVERYBODY, 1, str(BEA))) == 1


async def test_an_address_names_one_user(database: Database) -> None:
    database.add_emails(extra=f", ('{CLEO}', 'ANNA@example.com'), ('{CLEO}', NULL)")
    async with database.users() as users:
        assert await find_user(users, "BEA_100%@Example.COM") == BEA
        with pytest.raises(UsageMistake, match=f"Several.*{ANNA}, {CLEO}"):
            await find_user(users, "anna@example.com")
        with pytest.raises(UsageMistake, match=r"No user.*lykke users --email"):
            await find_user(users, "nobody@example.com")


@pytest.mark.parametrize("id_type", ["uuid", "varchar", "text", "char(36)"])
async def test_addresses_are_found_by_id(database: Database, id_type: str) -> None:
    database.add_emails(id_type, f", ('{CLEO}', NULL)")
    async with database.users() as users:
        assert await users.emails([str(ANNA), str(CLEO), str(UUID(int=9))]) == {
            str(ANNA): EMAILS[ANNA]
        }
        assert await users.emails([]) == {}


async def test_an_id_is_found_by_its_start(database: Database) -> None:
    alike = [UUID(int=(0xABCDEF00 << 96) + number) for number in range(4)]
    others = [UUID(int=0xABCDEE << 104), UUID(int=0xABCDF0 << 104), UUID(int=(1 << 128) - 1)]
    await insert(database.url, [entity(user) for user in [*alike, *others] for _ in range(3)])
    async with database.users() as users:
        assert await users.with_start("abcdef", 9) == [str(user) for user in alike]
        assert await users.with_start("abcdef", 2) == [str(user) for user in alike[:2]]
        whole = str(alike[1])
        assert await users.with_start(whole[:23], 9) == [str(user) for user in alike]
        assert await users.with_start(whole[:-1], 9) == [str(user) for user in alike]
        assert await users.with_start(str(others[2])[:-2], 9) == [str(others[2])]
        assert await users.with_start("abcde", 9) == [str(others[0]), *map(str, alike)]
        assert await users.with_start("bbbbbb", 9) == []


async def test_without_the_table_an_address_is_a_usage_mistake(database: Database) -> None:
    async with database.users() as users:
        with pytest.raises(UsageMistake, match="id and email"):
            await find_user(users, "anna@example.com")


async def test_addresses_that_may_not_be_read_are_left_out(
    postgres_server: PostgresServer, postgres_database: str, postgres_reader_url: str
) -> None:
    url = postgres_server.url(postgres_database)
    await activity(Database(url, url, print))
    ddl = "CREATE TABLE users (id uuid, email text); GRANT SELECT (id) ON users TO reader"
    postgres_server.execute(ddl, postgres_database)
    async with make_users(Settings(database_url=postgres_reader_url)) as users:
        assert not await users.have_emails()
        assert len(await users.active(EVERYBODY, 9)) == 3


async def test_an_id_that_is_no_uuid_is_told_of(database: Database) -> None:
    database.execute("CREATE TABLE users (id integer, email varchar)")
    database.execute("INSERT INTO users VALUES (7, 'old@example.com')")
    if not database.url.startswith("sqlite"):
        database.execute("GRANT SELECT ON users TO reader")
    async with database.users() as users:
        with pytest.raises(UsageMistake, match="'7', which is not a UUID"):
            await find_user(users, "old@example.com")
