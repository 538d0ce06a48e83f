"""The one place that turns settings into gateway, history and unit of work.

Each is imported only when it is asked for: start-up pays for what the command needs.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.database.urls import is_sqlite

if TYPE_CHECKING:
    from lykke_cli.application.doctor import Check
    from lykke_cli.application.gateways.channels_protocol import ChannelsProtocol
    from lykke_cli.application.gateways.history_protocol import HistoryProtocol
    from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
    from lykke_cli.application.gateways.statistics_protocol import StatisticsProtocol
    from lykke_cli.application.gateways.users_protocol import UsersProtocol
    from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork


def make_gateway(
    settings: Settings, *, health_interval: float | None = None
) -> "PubSubGatewayProtocol":
    """The gateway to Redis; connects on first use. Raises UsageMistake for a malformed URL.

    `health_interval` is in seconds; without it the gateway's own is used.
    """
    from lykke_cli.infrastructure.gateways.redis_pubsub import RedisPubSubGateway

    if health_interval is None:
        return RedisPubSubGateway(settings.redis_url)
    return RedisPubSubGateway(settings.redis_url, health_interval=health_interval)


def make_channels(settings: Settings) -> "ChannelsProtocol":
    """What is known of active channels; connects on first use. Raises UsageMistake likewise."""
    from lykke_cli.infrastructure.redis.channels import RedisChannels

    return RedisChannels(settings.redis_url)


def make_history(settings: Settings) -> "HistoryProtocol":
    """The history in the database; connects on first use. Raises UsageMistake likewise."""
    url = settings.required_database_url()
    if is_sqlite(url):
        from lykke_cli.infrastructure.sqlite.history import SqliteHistory

        return SqliteHistory(url)
    from lykke_cli.infrastructure.postgresql.history import PostgresHistory

    return PostgresHistory(url)


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
    elif url.lower().startswith("sqlite"):
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
