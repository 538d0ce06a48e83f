"""Entries in streams, as the relay writes them."""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import redis

from lykke_cli.infrastructure.redis.stream_layout import (
    partition_of,
    partitions_name,
    stream_name,
    stream_names,
)

PARTITIONS = 4


def stream_entries(number: int, user: uuid.UUID | None = None) -> list[dict[str, Any]]:
    """So many audit log entries, of one user or of many."""
    return [
        {
            "id": str(uuid.uuid4()),
            "user_id": str(user or uuid.uuid4()),
            "activity_type": "TASK_COMPLETED",
            "occurred_at": "2026-01-31T12:00:00.000000Z",
            "entity_id": None,
            "entity_type": None,
            "meta": {"number": n},
        }
        for n in range(number)
    ]


def fill(
    client: "redis.Redis | redis.RedisCluster",
    entries: Iterable[dict[str, Any]],
    channel_type: str = "auditlog",
    partitions: int = PARTITIONS,
) -> list[str]:
    """Add them to the streams; returns their ids."""
    client.set(partitions_name(channel_type), partitions, nx=True)
    ids = []
    with client.pipeline(transaction=False) as pipeline:
        for entry in entries:
            partition = partition_of(uuid.UUID(entry["user_id"]), partitions)
            fields: dict[Any, Any] = {"u": entry["user_id"], "e": orjson.dumps(entry)}
            pipeline.xadd(stream_name(channel_type, partition), fields)
            ids.append(entry["id"])
        pipeline.execute()
    return ids


def pending(
    client: "redis.Redis | redis.RedisCluster",
    group: str,
    channel_type: str = "auditlog",
    partitions: int = PARTITIONS,
) -> Iterator[dict[str, Any]]:
    """What the members of the group have not acknowledged."""
    for name in stream_names(channel_type, partitions):
        groups = client.xinfo_groups(name) if client.exists(name) else []
        if any(each["name"] == group.encode() for each in groups):
            yield from client.xpending_range(name, group, "-", "+", 100_000)
