"""`lykke.js` in node, against a bridge that sends, drops and refuses what the test says."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.node_client import DEADLINE, MODULE, Client, following

USER = "6f1ed002-ab5c-4bd1-9a6e-1f2b4b6d7c10"
SUBSCRIBED = {"type": "subscribed", "recovered": True, "exact": True, "cursor": None}


class Connection:
    """A client's, as the bridge has it."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        assert socket.request is not None
        self.path = socket.request.path
        self.over = asyncio.Event()

    async def receive(self) -> Any:
        async with asyncio.timeout(DEADLINE):
            return json.loads(await self._socket.recv())

    async def send(self, *frames: dict[str, Any]) -> None:
        for frame in frames:
            await self._socket.send(json.dumps(frame))

    async def close(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)

    def cut(self) -> None:
        """Without a farewell."""
        self._socket.transport.abort()


class FakeBridge:
    """Accepts connections on a port of its own, and does nothing by itself."""

    def __init__(self) -> None:
        self._connections: asyncio.Queue[Connection] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        protocols = [Subprotocol("lykke.v1")]
        self._server = await serve(self._accept, "127.0.0.1", 0, subprotocols=protocols)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _accept(self, socket: ServerConnection) -> None:
        self._connections.put_nowait(Connection(socket))
        await socket.wait_closed()

    async def connection(self) -> Connection:
        """The next client's."""
        async with asyncio.timeout(DEADLINE):
            return await self._connections.get()

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Client]:
        """A client of it with these options of `follow`."""
        async with following(f"http://127.0.0.1:{self.port}", USER, **options) as client:
            yield client

    async def began(self) -> Connection:
        """The next client's connection, which is subscribed; after what it asked for."""
        connection = await self.connection()
        assert (await connection.receive())["type"] == "resume"
        await connection.send(SUBSCRIBED)
        return connection


@pytest.fixture
async def bridge() -> AsyncIterator[FakeBridge]:
    async with FakeBridge() as bridge:
        yield bridge


def entry(id: str, cursor: str | None) -> dict[str, Any]:
    return {"type": "auditlog", "data": {"id": id}, "cursor": cursor}


def batch(ids: list[str], cursor: str | None) -> dict[str, Any]:
    return {"type": "auditlog_batch", "data": [{"id": id} for id in ids], "cursor": cursor}


def caught_up(cursor: str) -> dict[str, Any]:
    return {"type": "caught_up", "cursor": cursor}


async def test_without_a_user_it_follows_every_one_but_not_by_mistake(bridge: FakeBridge) -> None:
    async with following(f"http://127.0.0.1:{bridge.port}", None) as client:
        connection = await bridge.began()
        assert connection.path == "/ws"
        await client.tell("broadcast", 1)
        assert await connection.receive() == {"broadcast": True, "data": 1}
    async with bridge.client(userId=None):
        assert (await bridge.connection()).path == "/ws/null"


async def test_it_says_who_it_is_and_where_to_begin_and_never_in_the_address(
    bridge: FakeBridge,
) -> None:
    filters = [["activity_type", "A"], ["activity_type", "B&C"]]
    async with bridge.client(token="secret", last=7, filters=filters):
        connection = await bridge.connection()
        assert await connection.receive() == {"type": "token", "token": "secret"}
        assert await connection.receive() == {"type": "resume", "last": 7}
        assert connection.path == f"/ws/{USER}?activity_type=A&activity_type=B%26C"


async def test_without_more_it_begins_from_now_on(bridge: FakeBridge) -> None:
    async with bridge.client():
        connection = await bridge.connection()
        assert await connection.receive() == {"type": "resume"}
        assert connection.path == f"/ws/{USER}"


async def test_the_cursor_is_that_of_the_last_frame_that_was_dealt_with(
    bridge: FakeBridge,
) -> None:
    async with bridge.client(cursor="c0") as client:
        connection = await bridge.began()
        await connection.send(batch(["1", "2"], "c2"), entry("3", "c3"), caught_up("c4"))
        assert await client.take(2) == ["1", "2"]
        assert (await client.look())["cursor"] == "c0"  # the second may not have been dealt with
        assert await client.take(1) == ["3"]
        assert (await client.look())["cursor"] == "c2"
        await client.state("live")
        await client.tell("take", 1)
        look = await client.look()
        assert (look["cursor"], look["stored"]) == ("c4", ["c4"])
        await connection.send({"type": "heartbeat", "cursor": "c5"}, entry("4", "c6"))
        assert await client.said("entry") == "4"
        assert (await client.look())["cursor"] == "c5"


@pytest.mark.parametrize("code", [None, 1012, 4408, 4429, 1011])
async def test_it_comes_back_with_the_newest_cursor_and_gives_each_entry_once(
    bridge: FakeBridge, code: int | None
) -> None:
    async with bridge.client(since="2026-01-01") as client:
        connection = await bridge.began()
        await connection.send(batch(["1", "2"], "c2"), entry("3", None))
        assert await client.take(1) == ["1"]
        await client.take(0)
        if code is None:
            connection.cut()
        else:
            await connection.close(code)
        await client.advance(await client.state("connecting"))
        connection = await bridge.connection()
        assert await connection.receive() == {"type": "resume", "cursor": "c2"}
        await connection.send(SUBSCRIBED, batch(["3", "4"], "c4"), entry("5", "c5"))
        assert await client.take(4) == ["2", "3", "4", "5"]


async def test_what_came_without_a_cursor_is_asked_for_again_and_known(bridge: FakeBridge) -> None:
    async with bridge.client(last=3) as client:
        connection = await bridge.began()
        await connection.send(batch(["1", "2"], None))
        assert await client.take(2) == ["1", "2"]
        connection.cut()
        await client.advance(await client.state("connecting"))
        connection = await bridge.connection()
        assert await connection.receive() == {"type": "resume", "last": 3}
        await connection.send(SUBSCRIBED, batch(["1", "2", "3"], "c3"), caught_up("c3"))
        assert await client.take(1) == ["3"]
        await client.tell("take", 1)
        assert (await client.look())["cursor"] == "c3"


async def test_it_waits_longer_after_each_failure_and_never_long(bridge: FakeBridge) -> None:
    """With chance at one half, the waits are half of what they may be."""
    async with bridge.client() as client:
        waits = []
        for _ in range(7):
            (await bridge.connection()).cut()
            waits.append(await client.state("connecting"))
            await client.advance(waits[-1])
        assert waits == [500, 1000, 2000, 4000, 8000, 15_000, 15_000]
        connection = await bridge.began()
        await client.state("recovering")
        connection.cut()
        assert await client.state("connecting") == 500


async def test_it_stays_away_as_long_as_the_bridge_asks(bridge: FakeBridge) -> None:
    async with bridge.client() as client:
        connection = await bridge.began()
        await connection.send({"type": "reconnect", "after_ms": 3000})
        await connection.close(1012)
        assert await client.state("connecting") == 3500
        await client.advance(3500)
        connection = await bridge.began()
        await client.state("recovering")
        connection.cut()
        assert await client.state("connecting") == 500


async def test_a_refused_token_is_replaced_once(bridge: FakeBridge) -> None:
    async with bridge.client(tokens=["old", "new", "newer", "newest"]) as client:
        for given in ("old", "new"):
            connection = await bridge.connection()
            assert await connection.receive() == {"type": "token", "token": given}
            if given == "old":
                await connection.close(4401)
                await client.advance(await client.state("connecting"))
        await connection.receive()
        await connection.send(SUBSCRIBED)
        await client.state("recovering")
        await connection.close(4401)  # a day later
        await client.advance(await client.state("connecting"))
        await (await bridge.connection()).close(4401, "The token is not valid.")
        assert await client.said("problem") == {"code": 4401, "message": "The token is not valid."}
        await client.state("closed")


async def test_a_token_that_is_a_text_is_not_tried_twice(bridge: FakeBridge) -> None:
    async with bridge.client(token="secret") as client:
        await (await bridge.connection()).close(4401)
        await client.tell("take", 1)
        assert (await client.said("problem"))["code"] == 4401
        assert (await client.said("failed"))["code"] == 4401


async def test_a_token_that_cannot_be_had_is_asked_for_again(bridge: FakeBridge) -> None:
    async with bridge.client(tokens=["fails", "fails", "good"]) as client:
        await client.advance(await client.state("connecting"))
        await client.advance(await client.state("connecting"))
        assert await (await bridge.connection()).receive() == {"type": "token", "token": "good"}


@pytest.mark.parametrize("code", [4400, 4403])
async def test_a_refusal_ends_it_after_what_had_come(bridge: FakeBridge, code: int) -> None:
    async with bridge.client() as client:
        connection = await bridge.began()
        await connection.send(entry("1", "c1"))
        await connection.close(code, "No.")
        assert await client.said("problem") == {"code": code, "message": "No."}
        assert await client.take(1) == ["1"]
        await client.tell("take", 1)
        assert await client.said("failed") == {"code": code, "message": "No."}
        assert (await client.look())["state"] == "closed"


async def test_a_stored_cursor_is_gone_on_from_and_forgotten_where_it_is_refused(
    bridge: FakeBridge,
) -> None:
    async with bridge.client(stored="sealed by another key", since="2026-01-01") as client:
        connection = await bridge.connection()
        assert (await connection.receive())["cursor"] == "sealed by another key"
        await connection.send({"type": "error", "code": "cursor_refused", "message": "Not ours."})
        await connection.close(4400)
        await client.said("removed")
        refused = {"code": "cursor_refused", "message": "Not ours."}
        assert await client.said("problem") == refused
        assert (await client.said("problem"))["code"] == 4400


async def test_a_minute_of_silence_is_the_end_of_a_connection(bridge: FakeBridge) -> None:
    async with bridge.client() as client:
        connection = await bridge.began()
        await client.state("recovering")
        await client.advance(59_000)
        await connection.send({"type": "heartbeat", "cursor": "c1"})
        await connection.send({"type": "client_broadcast"})
        await client.said("message")
        await client.advance(59_999)
        assert (await client.look())["state"] == "recovering"
        await client.tell("advance", 1)
        assert await client.state("connecting") == 500


async def test_lists_are_taken_as_they_came_and_an_exception_ends_the_feed(
    bridge: FakeBridge,
) -> None:
    async with bridge.client(takesLists=True, throwsAt="4") as client:
        connection = await bridge.began()
        await connection.send(batch(["1", "2"], "c2"), entry("3", "c3"), batch(["4", "5"], "c5"))
        assert await client.said("entries") == ["1", "2"]
        assert await client.said("entries") == ["3"]
        assert await client.said("entries") == ["4", "5"]
        assert (await client.said("problem"))["message"] == "it cannot be shown"
        assert (await client.look())["cursor"] == "c3"


async def test_no_more_are_let_come_than_are_taken(bridge: FakeBridge) -> None:
    async with bridge.client() as client:
        connection = await bridge.began()
        for part in range(21):
            await connection.send(batch([f"{part}-{n}" for n in range(500)], f"c{part}"))
        await client.state("paused")
        assert len(await client.take(21 * 500)) == 21 * 500
        await client.tell("take", 1)
        connection = await bridge.connection()
        assert await connection.receive() == {"type": "resume", "cursor": "c20"}
        await connection.send(SUBSCRIBED, entry("more", "c21"))
        assert await client.said("entry") == "more"


async def test_it_sends_and_says_when_it_cannot(bridge: FakeBridge) -> None:
    async with bridge.client() as client:
        connection = await bridge.began()
        await client.state("recovering")
        await client.tell("broadcast", {"n": 1})
        assert await client.said("sent") is True
        assert await connection.receive() == {"broadcast": True, "data": {"n": 1}}
        await client.tell("acknowledge", "e1")
        assert await client.said("sent") is True
        seen = {"type": "acknowledgment", "event_id": "e1", "note": "seen"}
        assert await connection.receive() == seen
        connection.cut()
        await client.state("connecting")
        await client.tell("broadcast", {"n": 2})
        assert await client.said("sent") is False


async def test_its_state_is_what_is_known(bridge: FakeBridge) -> None:
    async with bridge.client() as client:
        assert (await client.look())["exact"] is None
        connection = await bridge.began()
        await client.state("recovering")
        await connection.send(caught_up("c1"))
        await client.state("live")
        assert (await client.look())["exact"] is True
        await connection.send({"type": "status", "state": "database_away"})
        await client.state("live")
        await connection.send({"type": "status", "state": "redis_away"})
        await client.state("recovering")
        await connection.send({"type": "status", "state": "live"})
        await client.state("recovering")
        await connection.send(caught_up("c2"))
        await client.state("live")
        await client.tell("close")
        await client.state("closed")
        await client.tell("take", 1)
        await client.said("end")


@pytest.mark.parametrize("answer", [{"recovered": False}, {"exact": False}])
async def test_it_is_not_exact_once_the_bridge_could_not_go_on(
    bridge: FakeBridge, answer: dict[str, bool]
) -> None:
    async with bridge.client() as client:
        found = []
        for told in ({"recovered": False}, answer, {}):  # at first nothing could be recovered
            connection = await bridge.connection()
            await connection.send(SUBSCRIBED | told)
            await client.state("recovering")
            found.append((await client.look())["exact"])
            connection.cut()
            await client.advance(await client.state("connecting"))
        assert found == [True, False, False]


async def test_it_is_not_exact_once_something_may_come_again(bridge: FakeBridge) -> None:
    async with bridge.client() as client:
        connection = await bridge.connection()
        await connection.send(SUBSCRIBED)
        await client.state("recovering")
        assert (await client.look())["exact"] is True
        await connection.send({"type": "notice", "message": "commits were lost"})
        await client.state("recovering")
        assert (await client.look())["exact"] is False


def test_the_module_stays_small_and_harmless() -> None:
    text = MODULE.read_text("utf-8")
    assert len(text.splitlines()) < 200
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(eval|Function|innerHTML|document|import\b(?!\.meta))", code)
