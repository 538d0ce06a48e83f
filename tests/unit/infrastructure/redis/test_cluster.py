"""The nodes of a cluster, where only one of them answers."""

import asyncio
import gc
from typing import Any

import hiredis
import pytest

from lykke_cli.infrastructure.redis.cluster import find_joined
from lykke_cli.infrastructure.redis.connection import RefusedForNow
from lykke_cli.infrastructure.redis.nodes import Nodes
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


@pytest.mark.parametrize("url", ["redis+cluster://h:7000", "redis+sentinel://h:26379/mine"])
async def test_nodes_that_refuse_for_now_are_a_loss_like_any_other(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    async def ask(*_: object, **__: object) -> list[Any]:
        return [hiredis.ReplyError("LOADING Redis is loading the dataset in memory")] * 2

    for module in ("cluster", "sentinels"):
        monkeypatch.setattr(f"lykke_cli.infrastructure.redis.{module}.ask", ask)
    with pytest.raises(RefusedForNow, match="LOADING"):
        await Nodes(parse_redis_url(url), timeout=20.0).locate("key")
