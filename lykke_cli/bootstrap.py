"""The one place that turns settings into gateway, history and unit of work.

Each is imported only when it is asked for: start-up pays for what the command needs.
"""

from typing import TYPE_CHECKING

from lykke_cli.infrastructure.database.urls import is_sqlite
from lykke_cli.infrastructure.settings import Settings

if TYPE_CHECKING:
    from lykke_cli.application.gateways.history_protocol import HistoryProtocol
    from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
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


def make_history(settings: Settings) -> "HistoryProtocol":
    """The history in the database; connects on first use. Raises UsageMistake likewise."""
    url = settings.required_database_url()
    if is_sqlite(url):
        from lykke_cli.infrastructure.database.sqlite_history import SqliteHistory

        return SqliteHistory(url)
    from lykke_cli.infrastructure.database.postgres_history import PostgresHistory

    return PostgresHistory(url)


def make_unit_of_work(
    settings: Settings, gateway: "PubSubGatewayProtocol", *, channel_type: str = "auditlog"
) -> "SqlAlchemyUnitOfWork":
    """A unit of work on the database that broadcasts through `gateway`; close it after use."""
    from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork

    return SqlAlchemyUnitOfWork(
        settings.required_database_url(),
        gateway,
        channel_type=channel_type,
        statement_cache=False,  # there may be a PgBouncer in transaction mode between
    )
