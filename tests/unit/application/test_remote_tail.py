"""Waiting for a bridge: what ends a connection, what comes after it, and what ends it all."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import orjson
import pytest

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import LoginRefused, ServerUnavailable
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.bridge_protocol import BridgeClosed, BridgeConnection
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.remote_tail import QUEUE_LENGTH, RemoteTail
from lykke_cli.application.statuses import Connected, Disconnected, Notice
from lykke_cli.application.tail import Event, TailRequest
from tests.builders import entity, wire

USER, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)
SOON = 20.0  # seconds in which what is expected must come

Step = dict[str, Any] | Exception


class Bridge:
    """BridgeProtocol: each connection is the next of `scripts`, and its last step its end.

    Without an exception at the end it is silent from then on.
    """

    name = "https://lykke.example"

    def __init__(self, *scripts: Sequence[Step] | Exception, has_other_token: bool = False) -> None:
        self._scripts = list(scripts)
        self._has_other_token = has_other_token
        self.greetings: list[dict[str, Any]] = []
        self.queries: list[Sequence[tuple[str, str]]] = []
        self.received = 0
        self.open = 0

    def has_other_token(self) -> bool:
        return self._has_other_token

    @asynccontextmanager
    async def connect(
        self, user_id: uuid.UUID, query: Sequence[tuple[str, str]]
    ) -> AsyncGenerator[BridgeConnection]:
        self.queries.append(query)
        script = self._scripts.pop(0)
        if isinstance(script, Exception):
            raise script
        self.open += 1
        try:
            yield Connection(self, list(script))
        finally:
            self.open -= 1


class Connection:
    def __init__(self, bridge: Bridge, script: list[Step]) -> None:
        self._bridge = bridge
        self._script = script

    async def send(self, frame: bytes) -> None:
        self._bridge.greetings.append(orjson.loads(frame))

    async def receive(self) -> bytes:
        if not self._script:
            await asyncio.Event().wait()
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        self._bridge.received += 1
        return orjson.dumps(step)


def subscribed(user: uuid.UUID = USER, cursor: str = "c0") -> Step:
    return {"type": "subscribed", "user_id": str(user), "cursor": cursor}


def an_entry(cursor: str = "c1") -> Step:
    return {"type": "auditlog", "data": orjson.Fragment(wire(entity(USER))), "cursor": cursor}


LOST = BridgeClosed(code=1006)


def a_tail(bridge: Bridge, *users: uuid.UUID, silence: float = 60, **request: Any) -> RemoteTail:
    wanted = TailRequest(user_ids=set(users or (USER,)), **request)
    return RemoteTail(bridge, wanted, silence=silence, backoff=lambda: Backoff(base=0))


async def take(tail: RemoteTail, number: int) -> list[Event]:
    """So many events but savings."""
    taken: list[Event] = []
    async with asyncio.timeout(SOON), aclosing(tail.events()) as events:
        async for event in events:
            if not isinstance(event, Save):
                taken.append(event)
            if len(taken) == number:
                break
    return taken


async def test_after_a_break_it_goes_on_from_the_last_cursor() -> None:
    bridge = Bridge([subscribed(), an_entry("c5"), LOST], LOST, [subscribed(), an_entry()])
    events = await take(a_tail(bridge, last=3), 5)
    assert [type(event) for event in events] == [Connected, Print, Disconnected, Connected, Print]
    assert bridge.queries == [[("last", "3")], [], []]
    assert bridge.greetings == [{"type": "resume", "cursor": "c5"}]
    assert bridge.open == 0


async def test_silence_is_a_break() -> None:
    bridge = Bridge([subscribed()], [subscribed()])
    [_, gone, again] = await take(a_tail(bridge, silence=0.01), 3)
    assert isinstance(gone, Disconnected) and isinstance(again, Connected)
    assert "nothing came for" in gone.reason


async def test_a_bridge_that_cannot_be_reached_at_the_start_is_an_error() -> None:
    with pytest.raises(ServerUnavailable, match="no route"):
        await take(a_tail(Bridge(ServerUnavailable("no route"))), 1)
    with pytest.raises(ServerUnavailable, match="broke off"):
        await take(a_tail(Bridge([LOST])), 1)


async def test_later_it_is_tried_again_and_told_once() -> None:
    away = ServerUnavailable("no route")
    bridge = Bridge([subscribed(), LOST], away, away, away, [subscribed()])
    events = await take(a_tail(bridge), 4)
    assert [type(event) for event in events] == [Connected, Disconnected, Notice, Connected]


async def test_a_login_that_is_refused_ends_it_at_any_time() -> None:
    with pytest.raises(LoginRefused, match="old"):
        await take(a_tail(Bridge([subscribed(), LOST], LoginRefused("old"))), 5)
    expired = BridgeClosed(code=4401, reason="old")
    with pytest.raises(LoginRefused, match="old"):
        await take(a_tail(Bridge([subscribed(), expired])), 5)


async def test_another_token_is_tried_once_the_one_in_use_has_expired() -> None:
    expired = BridgeClosed(code=4401, reason="old")
    bridge = Bridge([subscribed(), expired], [subscribed()], has_other_token=True)
    [_, gone, again] = await take(a_tail(bridge), 3)
    assert isinstance(gone, Disconnected) and isinstance(again, Connected)
    with pytest.raises(LoginRefused):  # the first one was of no use either
        await take(a_tail(Bridge([expired], has_other_token=True)), 1)


async def test_several_users_have_a_connection_each() -> None:
    bridge = Bridge([subscribed(USER, "a")], [subscribed(OTHER, "b")])
    [connected] = await take(a_tail(bridge, OTHER, USER), 1)
    assert isinstance(connected, Connected)
    assert str(USER) in connected.channel and str(OTHER) in connected.channel
    assert bridge.open == 0


async def test_filters_go_with_the_request() -> None:
    bridge = Bridge([subscribed()])
    await take(a_tail(bridge, filters=Filters(grep="x")), 1)
    assert bridge.queries == [[("grep", "x")]]


async def test_a_slow_output_slows_the_bridge() -> None:
    bridge = Bridge([subscribed(), *(an_entry(f"c{n}") for n in range(1, 100))])
    async with aclosing(a_tail(bridge).events()) as events:
        assert isinstance(await anext(events), Connected)
        for _ in range(100):
            await asyncio.sleep(0)
        assert bridge.received <= QUEUE_LENGTH + 2
