"""Follow, publish and recover a user's audit log: the truth in a database, the news on Redis."""

from importlib import import_module
from typing import TYPE_CHECKING

from lykke_cli._version import __version__

if TYPE_CHECKING:
    from lykke_cli.application.errors import (
        BadInput,
        CommitUncertain,
        LoginRefused,
        SchemaMismatch,
        ServerUnavailable,
        SubscriptionClosed,
        SubscriptionLost,
        UnitOfWorkFailed,
        UsageMistake,
    )
    from lykke_cli.application.gateways.pubsub_protocol import (
        Channel,
        Deliveries,
        Delivery,
        Gap,
        MultiplexedSubscription,
        PubSubGatewayProtocol,
        PubSubSubscription,
        Unreadable,
    )
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
    from lykke_cli.infrastructure.unit_of_work import SqlAlchemyUnitOfWork

_HOMES = {
    "ActivityType": "domain.audit_log",
    "AuditLogEntity": "domain.audit_log",
    "AuditLogPage": "infrastructure.database.audit_log_repository",
    "AuditLogRepository": "infrastructure.database.audit_log_repository",
    "BadInput": "application.errors",
    "Channel": "application.gateways.pubsub_protocol",
    "CommitUncertain": "application.errors",
    "Deliveries": "application.gateways.pubsub_protocol",
    "Delivery": "application.gateways.pubsub_protocol",
    "DomainError": "domain.errors",
    "Gap": "application.gateways.pubsub_protocol",
    "ImmutableEntityError": "domain.errors",
    "InvalidEntityError": "domain.errors",
    "LoginRefused": "application.errors",
    "LykkeError": "domain.errors",
    "MemoryPubSubGateway": "infrastructure.gateways.memory_pubsub",
    "MultiplexedSubscription": "application.gateways.pubsub_protocol",
    "PubSubGatewayProtocol": "application.gateways.pubsub_protocol",
    "PubSubSubscription": "application.gateways.pubsub_protocol",
    "RedisPubSubGateway": "infrastructure.gateways.redis_pubsub",
    "SchemaMismatch": "application.errors",
    "ServerUnavailable": "application.errors",
    "SqlAlchemyUnitOfWork": "infrastructure.unit_of_work",
    "SubscriptionClosed": "application.errors",
    "SubscriptionLost": "application.errors",
    "UnitOfWorkFailed": "application.errors",
    "Unreadable": "application.gateways.pubsub_protocol",
    "UsageMistake": "application.errors",
}

__all__ = [
    "ActivityType",
    "AuditLogEntity",
    "AuditLogPage",
    "AuditLogRepository",
    "BadInput",
    "Channel",
    "CommitUncertain",
    "Deliveries",
    "Delivery",
    "DomainError",
    "Gap",
    "ImmutableEntityError",
    "InvalidEntityError",
    "LoginRefused",
    "LykkeError",
    "MemoryPubSubGateway",
    "MultiplexedSubscription",
    "PubSubGatewayProtocol",
    "PubSubSubscription",
    "RedisPubSubGateway",
    "SchemaMismatch",
    "ServerUnavailable",
    "SqlAlchemyUnitOfWork",
    "SubscriptionClosed",
    "SubscriptionLost",
    "UnitOfWorkFailed",
    "Unreadable",
    "UsageMistake",
    "__version__",
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
