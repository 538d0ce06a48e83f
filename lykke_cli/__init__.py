"""Follow, publish and recover a user's audit log: the truth in a database, the news on Redis."""

from importlib import import_module
from typing import TYPE_CHECKING

from lykke_cli._version import __version__

if TYPE_CHECKING:
    from lykke_cli.application.consuming import StreamEntry
    from lykke_cli.application.errors import (
        BadInput,
        CommitUncertain,
        CursorBusy,
        LoginRefused,
        OutputFailed,
        SchemaMismatch,
        ServerUnavailable,
        StreamsMissing,
        SubscriptionClosed,
        SubscriptionLost,
        UnitOfWorkFailed,
        UsageMistake,
    )
    from lykke_cli.application.following import Following
    from lykke_cli.application.gateways.cursor_protocol import CursorStoreProtocol
    from lykke_cli.application.gateways.group_protocol import GroupConsumerProtocol
    from lykke_cli.application.gateways.pubsub_protocol import (
        Channel,
        Deliveries,
        Delivery,
        Gap,
        Kept,
        MultiplexedSubscription,
        Position,
        PubSubGatewayProtocol,
        PubSubSubscription,
        Unreadable,
    )
    from lykke_cli.application.messages import Entry
    from lykke_cli.application.statuses import (
        Connected,
        Disconnected,
        HistoryAway,
        HistoryRead,
        Notice,
    )
    from lykke_cli.bootstrap import follow
    from lykke_cli.domain.audit_log import ActivityType, AuditLogEntity
    from lykke_cli.domain.errors import (
        DomainError,
        ImmutableEntityError,
        InvalidEntityError,
        LykkeError,
    )
    from lykke_cli.infrastructure.database.audit_log_repository import (
        AuditLogPage,
        AuditLogRepository,
    )
    from lykke_cli.infrastructure.gateways.memory_pubsub import MemoryPubSubGateway
    from lykke_cli.infrastructure.gateways.redis_pubsub import RedisPubSubGateway
    from lykke_cli.infrastructure.gateways.redis_sharded import RedisShardedGateway
    from lykke_cli.infrastructure.gateways.redis_stream import RedisStreamGateway
    from lykke_cli.infrastructure.redis.consumer import RedisGroupConsumer
    from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork

_HOMES = {
    "ActivityType": "domain.audit_log",
    "AuditLogEntity": "domain.audit_log",
    "AuditLogPage": "infrastructure.database.audit_log_repository",
    "AuditLogRepository": "infrastructure.database.audit_log_repository",
    "BadInput": "application.errors",
    "Channel": "application.gateways.pubsub_protocol",
    "CommitUncertain": "application.errors",
    "Connected": "application.statuses",
    "CursorBusy": "application.errors",
    "CursorStoreProtocol": "application.gateways.cursor_protocol",
    "Deliveries": "application.gateways.pubsub_protocol",
    "Delivery": "application.gateways.pubsub_protocol",
    "Disconnected": "application.statuses",
    "DomainError": "domain.errors",
    "Entry": "application.messages",
    "Following": "application.following",
    "Gap": "application.gateways.pubsub_protocol",
    "HistoryAway": "application.statuses",
    "HistoryRead": "application.statuses",
    "GroupConsumerProtocol": "application.gateways.group_protocol",
    "ImmutableEntityError": "domain.errors",
    "InvalidEntityError": "domain.errors",
    "Kept": "application.gateways.pubsub_protocol",
    "LoginRefused": "application.errors",
    "LykkeError": "domain.errors",
    "MemoryPubSubGateway": "infrastructure.gateways.memory_pubsub",
    "MultiplexedSubscription": "application.gateways.pubsub_protocol",
    "Notice": "application.statuses",
    "OutputFailed": "application.errors",
    "Position": "application.gateways.pubsub_protocol",
    "PubSubGatewayProtocol": "application.gateways.pubsub_protocol",
    "PubSubSubscription": "application.gateways.pubsub_protocol",
    "RedisGroupConsumer": "infrastructure.redis.consumer",
    "RedisPubSubGateway": "infrastructure.gateways.redis_pubsub",
    "RedisShardedGateway": "infrastructure.gateways.redis_sharded",
    "RedisStreamGateway": "infrastructure.gateways.redis_stream",
    "SchemaMismatch": "application.errors",
    "ServerUnavailable": "application.errors",
    "SqlAlchemyUnitOfWork": "infrastructure.unit_of_work",
    "StreamEntry": "application.consuming",
    "StreamsMissing": "application.errors",
    "SubscriptionClosed": "application.errors",
    "SubscriptionLost": "application.errors",
    "UnitOfWorkFailed": "application.errors",
    "Unreadable": "application.gateways.pubsub_protocol",
    "UsageMistake": "application.errors",
    "follow": "bootstrap",
}

__all__ = [
    "ActivityType",
    "AuditLogEntity",
    "AuditLogPage",
    "AuditLogRepository",
    "BadInput",
    "Channel",
    "CommitUncertain",
    "Connected",
    "CursorBusy",
    "CursorStoreProtocol",
    "Deliveries",
    "Delivery",
    "Disconnected",
    "DomainError",
    "Entry",
    "Following",
    "Gap",
    "GroupConsumerProtocol",
    "HistoryAway",
    "HistoryRead",
    "ImmutableEntityError",
    "InvalidEntityError",
    "Kept",
    "LoginRefused",
    "LykkeError",
    "MemoryPubSubGateway",
    "MultiplexedSubscription",
    "Notice",
    "OutputFailed",
    "Position",
    "PubSubGatewayProtocol",
    "PubSubSubscription",
    "RedisGroupConsumer",
    "RedisPubSubGateway",
    "RedisShardedGateway",
    "RedisStreamGateway",
    "SchemaMismatch",
    "ServerUnavailable",
    "SqlAlchemyUnitOfWork",
    "StreamEntry",
    "StreamsMissing",
    "SubscriptionClosed",
    "SubscriptionLost",
    "UnitOfWorkFailed",
    "Unreadable",
    "UsageMistake",
    "__version__",
    "follow",
]


def __getattr__(name: str) -> object:
    """Import a public name on its first use, so that importing the package costs nothing."""
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
