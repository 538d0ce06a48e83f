"""The nodes of a cluster, where only one of them answers."""

import asyncio
import gc
from typing import Any

import pytest

from lykke_cli.infrastructure.redis.cluster import find_joined
from lykke_cli.infrastructure.redis.urls import Cluster, parse_redis_url

MANY = 50  # times, as the nodes are asked in any order


async def test_what_other_nodes_failed_for_is_nobodys_worry(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(host: str, port: int, *_: object, **__: object) -> list[Any]:
        if port != 7000:
            raise ConnectionError("gone")
        return [b"cluster_state:ok", b""]

    monkeypatch.setattr("lykke_cli.infrastructure.redis.cluster.ask", ask)
    address = parse_redis_url("redis+cluster://h:7000,h:7001,h:7002,h:7003")
    assert isinstance(address.among, Cluster)
    for _ in range(MANY):
        assert await find_joined(address, address.among) == ("h", 7000)
    await asyncio.sleep(0)
    gc.collect()
    assert "never retrieved" not in caplog.text
