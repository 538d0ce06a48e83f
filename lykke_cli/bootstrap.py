"""The one place that turns settings into gateway, history and unit of work.

Each is imported only when it is asked for: start-up pays for what the command needs.
"""

import os
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.configuration.transport import (
    Transport,
    keeps_messages,
    without_transport,
)
from lykke_cli.infrastructure.database.chunk_size import CHUNK_ROWS
from lykke_cli.infrastructure.database.urls import is_sqlite

if TYPE_CHECKING:
    from typing import Unpack

    from lykke_cli.application.doctor import Check
    from lykke_cli.application.filters import FilterOptions
    from lykke_cli.application.following import Following
    from lykke_cli.application.gateways.bridge_protocol import BridgeProtocol
    from lykke_cli.application.gateways.channels_protocol import ChannelsProtocol
    from lykke_cli.application.gateways.cursor_protocol import CursorStoreProtocol
    from lykke_cli.application.gateways.group_protocol import GroupConsumerProtocol
    from lykke_cli.application.gateways.history_protocol import HistoryProtocol
    from lykke_cli.application.gateways.pubsub_protocol import Gap, PubSubGatewayProtocol
    from lykke_cli.application.gateways.statistics_protocol import StatisticsProtocol
    from lykke_cli.application.gateways.stream_log_protocol import StreamLogProtocol
    from lykke_cli.application.gateways.users_protocol import UsersProtocol
    from lykke_cli.application.groups import GroupsProtocol
    from lykke_cli.application.hub_driver import HubDriver
    from lykke_cli.application.statuses import Status
    from lykke_cli.infrastructure.configuration.bridge import BridgeSettings
    from lykke_cli.infrastructure.redis.consumer import ConsumerOptions
    from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork


def make_gateway(
    settings: Settings, *, health_interval: float | None = None
) -> "PubSubGatewayProtocol":
    """The gateway to Redis; connects on first use. Raises UsageMistake for a malformed URL.

    `health_interval` is in seconds; without it the gateway's own is used.
    """
    from lykke_cli.infrastructure.gateways.redis_pubsub import RedisPubSubGateway
    from lykke_cli.infrastructure.redis.urls import parse_redis_url

    kind: type[RedisPubSubGateway] = RedisPubSubGateway
    match parse_redis_url(settings.redis_url).transport:
        case Transport.SHARDED:
            from lykke_cli.infrastructure.gateways.redis_sharded import RedisShardedGateway

            kind = RedisShardedGateway
        case Transport.STREAM:
            from lykke_cli.infrastructure.gateways.redis_stream import RedisStreamGateway

            kind = RedisStreamGateway
    if health_interval is None:
        return kind(settings.redis_url)
    return kind(settings.redis_url, health_interval=health_interval)


def kept_by(settings: Settings) -> str | None:
    """What keeps what is published, by a name that a place can have; None where nothing does."""
    from lykke_cli.infrastructure.redis.urls import parse_redis_url

    if not keeps_messages(settings.redis_url):
        return None
    return f"streams of {parse_redis_url(settings.redis_url).display}"


def make_broadcasts(settings: Settings) -> "PubSubGatewayProtocol":
    """The gateway to Pub/Sub, whatever transport is set. Raises UsageMistake likewise."""
    from lykke_cli.infrastructure.gateways.redis_pubsub import RedisPubSubGateway

    return RedisPubSubGateway(without_transport(settings.redis_url))


def make_stream_log(
    settings: Settings, *, partitions: int | None, keep: int
) -> "StreamLogProtocol":
    """The streams, for the relay; connects on entering. Raises UsageMistake likewise.

    `partitions` and `keep` are as in RedisStreamLog.
    """
    from lykke_cli.infrastructure.gateways.redis_stream_log import RedisStreamLog

    return RedisStreamLog(settings.redis_url, partitions=partitions, keep=keep)


@asynccontextmanager
async def open_gateway(
    settings: Settings, given: "PubSubGatewayProtocol | None"
) -> "AsyncGenerator[PubSubGatewayProtocol]":
    """The gateway that is given, which stays open, or one for the length of the block."""
    if given is not None:
        yield given
        return
    gateway = make_gateway(settings)
    try:
        yield gateway
    finally:
        await gateway.close()


def make_consumer(
    settings: Settings,
    channel_type: str,
    *,
    group: str,
    consumer: str | None = None,
    **options: "Unpack[ConsumerOptions]",
) -> "GroupConsumerProtocol":
    """A member of a group, as RedisGroupConsumer; raises UsageMistake likewise."""
    from lykke_cli.infrastructure.redis.consumer import RedisGroupConsumer
    from lykke_cli.infrastructure.redis.urls import parse_redis_url

    address = parse_redis_url(settings.redis_url)
    return RedisGroupConsumer(address, channel_type, group=group, consumer=consumer, **options)


def make_bridge(settings: "BridgeSettings") -> "BridgeProtocol":
    """A bridge, in place of gateway and history; raises UsageMistake where its library lacks."""
    from lykke_cli.infrastructure.gateways.bridge import WebSocketBridge

    return WebSocketBridge(settings)


def make_channels(settings: Settings) -> "ChannelsProtocol":
    """What is known of active channels; connects on first use. Raises UsageMistake likewise."""
    from lykke_cli.infrastructure.redis.channels import RedisChannels

    return RedisChannels(settings.redis_url)


def make_groups(settings: Settings) -> "GroupsProtocol":
    """What is known of consumer groups; connects on first use. Raises UsageMistake likewise."""
    from lykke_cli.infrastructure.redis.group_list import RedisGroups
    from lykke_cli.infrastructure.redis.urls import parse_redis_url

    return RedisGroups(parse_redis_url(settings.redis_url))


def make_history(
    settings: Settings, *, chunk_rows: int = CHUNK_ROWS, chunk_bytes: int | None = None
) -> "HistoryProtocol":
    """The history in the database; connects on first use. Raises UsageMistake likewise.

    A chunk has so many rows at most, and a part of it so many bytes where they are given.
    """
    return make_histories(settings, 1, chunk_rows=chunk_rows, chunk_bytes=chunk_bytes)[0]


def make_histories(
    settings: Settings,
    number: int,
    *,
    chunk_rows: int,
    chunk_bytes: int | None = None,
    prompt: bool = False,
) -> "list[HistoryProtocol]":
    """So many of the same, for one reader: none is shown less than another was before.

    `prompt` as in PostgresHistory.
    """
    url = settings.required_database_url()
    if is_sqlite(url):
        from lykke_cli.infrastructure.sqlite.history import SqliteHistory

        return [
            SqliteHistory(url, chunk_rows=chunk_rows, chunk_bytes=chunk_bytes)
            for _ in range(number)
        ]
    from lykke_cli.infrastructure.postgresql.furthest import Furthest
    from lykke_cli.infrastructure.postgresql.history import PostgresHistory

    furthest = Furthest()
    return [
        PostgresHistory(
            url, furthest=furthest, chunk_rows=chunk_rows, chunk_bytes=chunk_bytes, prompt=prompt
        )
        for _ in range(number)
    ]


def make_statistics(settings: Settings) -> "StatisticsProtocol":
    """Counts in the database; connects on entering. Raises UsageMistake likewise."""
    url = settings.required_database_url()
    if is_sqlite(url):
        from lykke_cli.infrastructure.sqlite.statistics import SqliteStatistics

        return SqliteStatistics(url)
    from lykke_cli.infrastructure.postgresql.statistics import PostgresStatistics

    return PostgresStatistics(url)


def make_users(settings: Settings) -> "UsersProtocol":
    """The users in the database; connects on entering. Raises UsageMistake likewise."""
    url = settings.required_database_url()
    if is_sqlite(url):
        from lykke_cli.infrastructure.sqlite.users import SqliteUsers

        return SqliteUsers(url)
    from lykke_cli.infrastructure.postgresql.users import PostgresUsers

    return PostgresUsers(url)


@asynccontextmanager
async def make_hub(
    settings: Settings,
    *,
    connections: int = 4,
    reconcile_interval: float = 30.0,
    gateway: "PubSubGatewayProtocol | None" = None,
    on_status: "Callable[[Status], None] | None" = None,
) -> "AsyncGenerator[HubDriver]":
    """A hub for many readers, open, with so many `connections` to the database, two at least.

    A `gateway` that is given stays open. The rest is as in HubDriver. Raises UsageMistake as the
    others do, and ServerUnavailable when Redis cannot be reached.
    """
    from lykke_cli.application.hub_driver import HubDriver
    from lykke_cli.application.hub_reader import PORTION_BYTES, PORTION_LINES

    if connections < 2:
        raise UsageMistake("A hub needs two connections to the database: readers always keep one.")
    async with AsyncExitStack() as stack:
        used = await stack.enter_async_context(open_gateway(settings, gateway))
        histories = make_histories(
            settings, connections, chunk_rows=PORTION_LINES, chunk_bytes=PORTION_BYTES
        )
        for history in histories:
            await stack.enter_async_context(history)
        driver = HubDriver(
            used, histories, reconcile_interval=reconcile_interval, on_status=on_status
        )
        yield await stack.enter_async_context(driver)


def make_unit_of_work(
    settings: Settings, gateway: "PubSubGatewayProtocol", *, channel_type: str = AUDIT_LOG
) -> "SqlAlchemyUnitOfWork":
    """A unit of work on the database that broadcasts through `gateway`; close it after use."""
    from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork

    return SqlAlchemyUnitOfWork(
        settings.required_database_url(),
        gateway,
        channel_type=channel_type,
        statement_cache=False,  # there may be a PgBouncer in transaction mode between
    )


async def make_checks(
    settings: Settings,
    channel_type: str,
    stack: AsyncExitStack,
    *,
    write: bool,
    timeout: float,
    user_id: UUID | None = None,
) -> "list[Check]":
    """What `lykke doctor` looks at; `stack` closes what the checks open.

    With `write` an entry is recorded, for `user_id` or for a user nobody has. `timeout` is in
    seconds.
    """
    from lykke_cli.application.doctor import (
        END_TO_END,
        Clock,
        Parts,
        clock_check,
        end_to_end_check,
        not_asked_for,
    )
    from lykke_cli.infrastructure.files.checks import state_check
    from lykke_cli.infrastructure.redis.checks import RedisChecks

    redis = await stack.enter_async_context(
        RedisChecks(settings.redis_url, channel_type, timeout=timeout)
    )
    checks, clocks = redis.checks(), list[Clock]([redis])
    url = settings.database_url
    if url is None:
        remedy = "Set DATABASE_URL or give --database-url to have every entry exactly once."
        checks.append(not_asked_for("database.reachable", "no database is named", remedy))
    elif url.lower().startswith("sqlite"):  # of a scheme that is neither the other one tells
        from lykke_cli.infrastructure.sqlite.checks import SqliteChecks

        checks += (await stack.enter_async_context(SqliteChecks(url, timeout=timeout))).checks()
    else:
        from lykke_cli.infrastructure.postgresql.checks import PostgresChecks

        postgres = await stack.enter_async_context(PostgresChecks(url, timeout=timeout))
        checks += postgres.checks()
        clocks.append(postgres)
    checks += [clock_check(clocks), state_check()]
    if not write or url is None:
        needed = "--write" if url is not None else "--write and a database"
        checks.append(not_asked_for(END_TO_END, f"needs {needed}: it records an entry", None))
        return checks

    @asynccontextmanager
    async def parts() -> AsyncGenerator[Parts]:
        async with AsyncExitStack() as opened:
            gateway = make_gateway(settings)
            opened.push_async_callback(gateway.close)
            unit_of_work = make_unit_of_work(settings, gateway, channel_type=channel_type)
            opened.push_async_callback(unit_of_work.close)
            yield Parts(
                gateway, unit_of_work, await opened.enter_async_context(make_history(settings))
            )

    needs = ("redis.login", "database.table")
    checks.append(
        end_to_end_check(parts, channel_type, needs=needs, timeout=timeout, user_id=user_id)
    )
    return checks


def follow(
    user_ids: UUID | Collection[UUID] | None,
    *,
    place: "str | CursorStoreProtocol | None" = None,
    on_demand: bool = False,
    since: datetime | None = None,
    last: int | None = None,
    redis_url: str | None = None,
    database_url: str | None = None,
    gateway: "PubSubGatewayProtocol | None" = None,
    history: "HistoryProtocol | None" = None,
    live_only: bool = False,
    reconcile_interval: float = 30.0,
    on_gap: "Callable[[Gap], None] | None" = None,
    on_status: "Callable[[Status], None] | None" = None,
    **filters: "Unpack[FilterOptions]",
) -> "Following":
    """Follow a user's audit log, several users' or with None everybody's.

    Use it with `async with`, then `async for`.

    Every entry that is committed from the start on comes exactly once, whatever happens to Redis
    or the connection between. It starts now, at `since` (which names a time zone), or with the
    newest `last` entries; with a `place`, where the one of that name ended. Filters are
    `activity_types`, `excluded_types`, `entity_type`, `entity_id`, `until`, `query`, `grep` and
    `not_grep`, as on the command line.

    A place is a name, for a file in the user's state folder, or an object of your own that has the
    methods of `CursorStoreProtocol`. An entry counts as taken when the next one is asked for. It is
    stored within a second: a process that dies may get its last entries again. With `on_demand`
    an entry counts only when `acknowledge` is called, and is stored by then. A store that writes
    into the transaction of what you do with the entry makes that happen exactly once. After a
    rollback leave the block, and begin again; and see to it that one process at a time uses your
    store. Another set of users, or other filters, go on from the same place: what was passed over
    before does not come.

    The servers are those of `redis_url` (REDIS_URL, LYKKE_TRANSPORT) and `database_url`
    (DATABASE_URL), or a `gateway` and a `history` of your own, which stay open. With `live_only`
    there is no database: `on_gap` is called with each time in which entries may have been missed.
    By the transport stream it may have a place all the same, as the streams keep what came since.
    `on_status` is called with whatever happens: Connected, Disconnected, HistoryAway, HistoryRead,
    Notice. Both are logged too. The database is looked at every `reconcile_interval` seconds for
    entries that were not broadcast.

    Raises UsageMistake where the arguments do not fit; on entering the block ServerUnavailable
    where a server cannot be reached, and CursorBusy where another process uses the named place.
    Once the database was read, what fails is tried again.
    """
    from lykke_cli.application.filters import Filters
    from lykke_cli.application.following import Following, Parts, checked_request

    request = checked_request(user_ids, Filters.of(filters), since, last)
    settings = Settings.without_profile(
        os.environ, redis_url=redis_url, database_url=database_url, needs_redis=gateway is None
    )
    kept = kept_by(settings) if live_only and gateway is None else None
    if live_only and any(given is not None for given in (since, last, history)):
        raise UsageMistake("live_only goes without since, last and history.")
    if live_only and place is not None and kept is None:
        raise UsageMistake("live_only has a place only by the transport stream, without a gateway.")
    if not live_only and history is None and settings.database_url is None:
        raise UsageMistake(
            "follow() needs the database: set DATABASE_URL, or give database_url or a history; "
            "with live_only=True there is none, and gaps are only told of."
        )
    if on_demand and place is None:
        raise UsageMistake("on_demand is about a place: give one.")

    @asynccontextmanager
    async def parts() -> AsyncGenerator[Parts]:
        async with AsyncExitStack() as stack:
            used = await stack.enter_async_context(open_gateway(settings, gateway))
            truth = history
            if truth is None and not live_only:
                truth = await stack.enter_async_context(make_history(settings))
            store = None if isinstance(place, str) else place
            if isinstance(place, str):
                from lykke_cli.infrastructure.files.cursor_file import named_place

                kept_in = kept if truth is None else await truth.identify()
                assert kept_in is not None
                store = stack.enter_context(named_place(place, kept_in))
            yield Parts(used, truth, store)

    return Following(
        parts,
        request,
        on_demand=on_demand,
        reconcile_interval=reconcile_interval,
        on_gap=on_gap,
        on_status=on_status,
    )
