"""Which server has which keys."""

from typing import Any

import pytest

from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.stream_layout import stream_names
from lykke_cli.infrastructure.redis.urls import parse_redis_url


async def test_sentinels_are_asked_once_for_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def ask(host: str, port: int, commands: list[Any], **_: object) -> list[Any]:
        asked.append((host, commands[-1][0]))
        return [[b"primary", b"7000"] if host == "s" else [b"master"]]

    monkeypatch.setattr("lykke_cli.infrastructure.redis.sentinels.ask", ask)
    nodes = Nodes(parse_redis_url("redis+sentinel://s:26379/mine"), timeout=20.0)
    streams = list(stream_names("auditlog", 16))
    assert list((await nodes.by_node(streams)).values()) == [streams]
    assert asked == [("s", "SENTINEL"), ("primary", "ROLE")]
    assert await nodes.by_node([]) == {}
