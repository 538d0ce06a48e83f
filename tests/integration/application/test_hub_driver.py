"""Many readers on real servers: what each is sent is compared with the database, entry by entry."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis

from lykke_cli.application.filters import Filters
from lykke_cli.application.hub_driver import HubDriver
from lykke_cli.application.hub_reader import HubReader
from lykke_cli.application.merge import Checkpoint
from lykke_cli.bootstrap import make_hub
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.configuration.settings import Settings
from tests.builders import entity, insert, wire
from tests.servers import PostgresServer, RedisServer

USERS = 50
READERS = 6  # of each user
OF_ALL = 3  # readers of every user
ROUNDS = 12
DEADLINE = 100.0  # seconds, on a machine that is busy
INTERVAL = 0.3  # seconds between the hub's passes

pytestmark = pytest.mark.long


@pytest.fixture(params=["sqlite_url", "postgres_reader_url"])
def urls(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Of the database: who writes, and who may read."""
    owner = "sqlite_url" if request.param == "sqlite_url" else "postgres_url"
    return request.getfixturevalue(owner), request.getfixturevalue(request.param)


class Client:
    """Follows a user, or all, through one reader after another, and keeps what it was sent."""

    def __init__(self, user_id: uuid.UUID | None) -> None:
        self.user_id = user_id
        self.received: Counter[str] = Counter()
        self.checkpoint: Checkpoint | None = None
        self.has_begun = asyncio.Event()

    async def follow(self, hub: HubDriver) -> None:
        async with hub.reader(self.user_id, resume=self.checkpoint) as reader:
            await reader.begun()
            self.checkpoint = reader.checkpoint
            self.has_begun.set()
            while True:
                portion = await reader.next()
                self.received.update(line.id for line in portion.lines if line.id is not None)
                self.checkpoint = portion.checkpoint


class Scene:
    """An application that writes, of which a part is not broadcast, and its clients."""

    def __init__(self, url: str, redis: RedisServer, users: int, readers: int) -> None:
        self.url = url
        self.redis = redis
        self.users = [uuid.uuid4() for _ in range(users)]
        self.clients = [Client(user) for user in self.users for _ in range(readers)]
        self.clients += [Client(None) for _ in range(OF_ALL)]
        self.written: list[AuditLogEntity] = []
        self.following: dict[Client, asyncio.Task[None]] = {}
        self.random = random.Random(0)

    def join(self, client: Client, hub: HubDriver) -> None:
        self.following[client] = asyncio.create_task(client.follow(hub))

    async def leave(self, client: Client) -> None:
        task = self.following.pop(client)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def write(self, *, lost: float = 0.3) -> None:
        new = [entity(user) for user in self.users]
        await insert(self.url, new)
        self.written += new
        async with Redis(port=self.redis.port) as publisher:
            for one in new:
                if self.random.random() >= lost:
                    await publisher.publish(f"auditlog:{one.user_id}", wire(one))

    async def until_all_have_all(self) -> None:
        """Fails when anything comes twice, or does not come."""
        while not all(self.has_all(client) for client in self.clients):
            for task in self.following.values():
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)
        for client in self.clients:
            assert max(client.received.values()) == 1
            assert client.received.keys() == self.owed(client)

    def has_all(self, client: Client) -> bool:
        return client.received.keys() >= self.owed(client)

    def owed(self, client: Client) -> set[str]:
        return {str(one.id) for one in self.written if client.user_id in (one.user_id, None)}


@asynccontextmanager
async def scene(
    urls: tuple[str, str], redis: RedisServer, *, users: int = USERS, readers: int = READERS
) -> AsyncGenerator[tuple[Scene, HubDriver, HubDriver]]:
    """With two hubs; every client has begun on the first."""
    writer, reader = urls
    settings = Settings(redis.url, reader)
    async with asyncio.timeout(DEADLINE), AsyncExitStack() as stack:
        hubs = [
            await stack.enter_async_context(
                make_hub(settings, connections=2, reconcile_interval=INTERVAL)
            )
            for _ in range(2)
        ]
        made = Scene(writer, redis, users, readers)
        for client in made.clients:
            made.join(client, hubs[0])
        await asyncio.gather(*(client.has_begun.wait() for client in made.clients))
        yield made, hubs[0], hubs[1]
        await made.until_all_have_all()
        for client in made.clients:
            await made.leave(client)


async def test_readers_that_come_and_go_have_every_entry_once(
    urls: tuple[str, str], own_redis: RedisServer
) -> None:
    """Between two hubs, while entries are written, and the connections to Redis are cut."""
    async with scene(urls, own_redis) as (made, *hubs):
        for number in range(ROUNDS):
            await made.write()
            if number % 4 == 2:
                await asyncio.to_thread(own_redis.cut_subscribers)
            for client in made.random.sample(made.clients, len(made.clients) // 4):
                await made.leave(client)
                made.join(client, made.random.choice(hubs))


async def test_an_outage_of_redis_is_made_up_for(
    urls: tuple[str, str], own_redis: RedisServer
) -> None:
    async with scene(urls, own_redis, users=10, readers=2) as (made, hub, _):
        await made.write()
        await asyncio.to_thread(own_redis.kill)
        await until(lambda: not hub.is_connected)
        new = [entity(user) for user in made.users]
        await insert(made.url, new)
        made.written += new
        await asyncio.to_thread(own_redis.start)
        await until(lambda: hub.is_connected)
        await made.write()


async def test_a_restart_of_postgresql_is_made_up_for(
    own_postgres: PostgresServer, own_redis: RedisServer
) -> None:
    url = own_postgres.url(own_postgres.make_database(timestamptz=False, date_column=False))
    async with scene((url, url), own_redis, users=10, readers=2) as (made, hub, _):
        await made.write()
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: hub.history_is_away)
        for client in made.clients[::2]:
            await made.leave(client)
            made.join(client, hub)
        await asyncio.to_thread(own_postgres.start)
        await made.write()
        await until(lambda: not hub.history_is_away)


async def test_a_reader_that_never_takes_keeps_nobody_waiting(
    urls: tuple[str, str], own_redis: RedisServer
) -> None:
    """Nor does it keep its own memory full: it is read again from where it is."""
    writer, url = urls
    user, other = uuid.uuid4(), uuid.uuid4()
    before = [entity(user) for _ in range(10_000)]
    await insert(writer, before)
    settings = Settings(own_redis.url, url)
    async with asyncio.timeout(DEADLINE), make_hub(settings, connections=2) as hub:
        async with AsyncExitStack() as stack:
            stalled = [
                await stack.enter_async_context(hub.reader(user, last=len(before)))
                for _ in range(3)
            ]
            for one in stalled:
                await one.begun()
            entry = entity(other)
            await insert(writer, [entry])
            async with hub.reader(other, last=1) as reader:
                assert await taken(reader, 1) == [str(entry.id)]
            for one in stalled:
                assert set(await taken(one, len(before))) == {str(each.id) for each in before}


@pytest.mark.parametrize(
    "filters",
    [
        Filters(activity_types=("WANTED",)),
        Filters(activity_types=("W*",), grep='"n":'),
        Filters(query="meta.n != null"),
    ],
    ids=["by the database", "in part", "by us"],
)
async def test_the_last_that_filters_let_through_come_and_then_what_they_let_through(
    filters: Filters, urls: tuple[str, str], own_redis: RedisServer
) -> None:
    writer, url = urls
    user = uuid.uuid4()
    wanted = [entity(user, "WANTED", meta={"n": number}) for number in range(5)]
    await insert(writer, wanted)
    await insert(writer, [entity(user, "OTHER") for _ in range(2_000)])
    async with asyncio.timeout(DEADLINE), make_hub(Settings(own_redis.url, url)) as hub:
        async with hub.reader(user, last=3, filters=filters) as reader:
            assert await taken(reader, 3) == [str(one.id) for one in wanted[2:]]
            live = [entity(user, "OTHER"), entity(user, "WANTED", meta={"n": 5})]
            await insert(writer, live)
            with own_redis.client() as publisher:
                for one in live:
                    publisher.publish(f"auditlog:{user}", wire(one))
                publisher.publish(f"auditlog:{user}", b'{"type":"test"}')
            assert await taken(reader, 1) == [str(live[1].id)]


@pytest.mark.parametrize("is_of_all", [False, True])
async def test_a_hub_goes_on_where_another_has_ended(
    is_of_all: bool, urls: tuple[str, str], own_redis: RedisServer
) -> None:
    writer, url = urls
    user = uuid.uuid4()
    followed = None if is_of_all else user
    settings = Settings(own_redis.url, url)
    async with asyncio.timeout(DEADLINE):
        async with make_hub(settings) as hub, hub.reader(followed) as reader:
            await reader.begun()
            first = entity(user)
            await insert(writer, [first])
            with own_redis.client() as publisher:
                publisher.publish(f"auditlog:{user}", wire(first))
            assert await taken(reader, 1) == [str(first.id)]
            checkpoint = reader.checkpoint
        missed = entity(user)
        await insert(writer, [missed])
        async with make_hub(settings) as hub, hub.reader(followed, resume=checkpoint) as reader:
            begun = await reader.begun()
            assert begun.recovered and begun.exact and begun.source == "database"
            assert await taken(reader, 1) == [str(missed.id)]
            with own_redis.client() as publisher:  # repeated: it is known
                for one in (first, missed):
                    publisher.publish(f"auditlog:{user}", wire(one))
            assert not (await reader.next(0.5)).lines


async def test_readers_of_every_user_and_of_one_are_shown_everything_once_together(
    urls: tuple[str, str], own_redis: RedisServer
) -> None:
    """Of whomever: also what is no entry, which nothing would tell from a repetition."""
    writer, url = urls
    users = [uuid.uuid4() for _ in range(3)]
    async with asyncio.timeout(DEADLINE), make_hub(Settings(own_redis.url, url)) as hub:
        async with hub.reader(users[0]) as first, hub.reader(None) as everybodys:
            for reader in (first, everybodys):
                while not (await reader.next()).caught_up:
                    pass
            entries = [entity(user) for user in users for _ in range(10)]
            await insert(writer, entries)
            with own_redis.client() as publisher:
                for one in entries:
                    publisher.publish(f"auditlog:{one.user_id}", b'{"type":"test"}')
                    publisher.publish(f"auditlog:{one.user_id}", wire(one))
            of_first = [id for one in entries[:10] for id in (None, str(one.id))]
            of_all = [id for one in entries for id in (None, str(one.id))]
            assert await taken(first, len(of_first)) == of_first
            assert await taken(everybodys, len(of_all)) == of_all


async def taken(reader: HubReader, number: int) -> Sequence[str | None]:
    """The ids of so many lines at least."""
    ids = list[str | None]()
    while len(ids) < number:
        ids += [line.id for line in (await reader.next()).lines]
    return ids


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
