"""What a browser's EventSource is promised."""

import asyncio
import json
import uuid

import pytest

from lykke_cli.web import Limits, connection
from tests.bridges import Http, commit, following, get, publish, record, requested, served
from tests.bridges import until as settled
from tests.integration.web.conftest import Make
from tests.integration.web.test_connection import deaf, slow_closes


async def until(http: Http, *types: str) -> dict[str, str]:
    """The next event of one of these types."""
    while (event := await http.event()).get("event") not in types:
        assert event, "the stream has ended"
    return event


async def ids(http: Http, count: int) -> tuple[list[str], str]:
    """Of so many entries, and the newest cursor."""
    found, cursor = list[str](), ""
    while len(found) < count:
        event = await until(http, "auditlog", "auditlog_batch", "caught_up")
        cursor = event.get("id", cursor)
        data = json.loads(event["data"]).get("data", [])
        found += [entry["id"] for entry in (data if isinstance(data, list) else [data])]
    return found, cursor


async def test_events_are_what_a_socket_s_frames_are(
    place: str, redis_url: str, sqlite_url: str, user: uuid.UUID
) -> None:
    old = await commit(sqlite_url, user, 3)
    async with requested(place, f"/events/{user}?last=2") as http:
        assert http.headers["content-type"] == "text/event-stream"
        assert http.headers["x-accel-buffering"] == "no"
        assert 1_000 <= int((await http.event())["retry"]) < 5_000
        subscribed = await http.event()
        assert subscribed["event"] == "subscribed" and subscribed["id"]
        assert json.loads(subscribed["data"])["from"] == "database"
        assert (await ids(http, 2))[0] == old[-2:]
        await until(http, "caught_up")
        new = await record(sqlite_url, redis_url, user)
        publish(redis_url, user, b'{"type":"client_broadcast","data":1}')
        event = await http.event()
        assert event["event"] == "auditlog" and "cursor" not in event["data"]
        assert json.loads(event["data"])["data"]["id"] == new
        other = await http.event()
        assert other == {"event": "client_broadcast", "data": other["data"]}


async def test_events_are_of_every_user_where_none_is_named(place: str, sqlite_url: str) -> None:
    old = [id for _ in range(2) for id in await commit(sqlite_url, uuid.uuid4(), 1)]
    async with requested(place, "/events?last=2") as http:
        subscribed = await until(http, "subscribed")
        assert json.loads(subscribed["data"])["user_id"] is None
        found, cursor = await ids(http, 2)
    assert found == old
    later = await commit(sqlite_url, uuid.uuid4(), 1)
    async with requested(place, "/events", {"Last-Event-ID": cursor}) as http:
        assert (await ids(http, 1))[0] == later


async def test_a_browser_that_comes_back_goes_on_where_it_was(
    make: Make, sqlite_url: str, user: uuid.UUID
) -> None:
    first = await commit(sqlite_url, user, 2)
    async with served(make()) as place, requested(place, f"/events/{user}?last=2") as http:
        assert (await ids(http, 2))[0] == first
        place_of = (await until(http, "caught_up"))["id"]
    missed = await commit(sqlite_url, user, 3)
    async with served(make()) as place:
        path = f"/events/{user}?last=2"  # the browser asks with the same URL again
        async with requested(place, path, {"Last-Event-ID": place_of}) as http:
            assert (await ids(http, 3))[0] == missed


async def test_the_filters_hold_and_a_heartbeat_has_the_cursor(
    make: Make, redis_url: str, sqlite_url: str, user: uuid.UUID
) -> None:
    async with served(make(limits=Limits(heartbeat=0.2))) as place:
        async with requested(place, f"/events/{user}?exclude=TASK_*") as http:
            await until(http, "caught_up")
            await record(sqlite_url, redis_url, user)
            shown = await record(sqlite_url, redis_url, user, activity_type="MESSAGE_SENT")
            assert (await ids(http, 1))[0] == [shown]
            beat = await until(http, "heartbeat")
            assert beat["id"] and beat["data"] == '{"type":"heartbeat"}'


@pytest.mark.parametrize("query", ["last=0", "sinec=1h", "cursor=forged", "token=x"])
async def test_what_makes_no_sense_is_refused_before_it_begins(
    place: str, user: uuid.UUID, query: str
) -> None:
    answer = await get(place, f"/events/{user}?{query}")
    assert answer.status == 400 and answer.headers["content-type"] == "application/json"
    assert (await get(place, f"/events/{user}", {"Last-Event-ID": "forged"})).status == 400


async def test_a_browser_that_has_gone_or_takes_nothing_leaves_nothing(
    make: Make, sqlite_url: str, user: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FAREWELL", 0.2)
    app = make(limits=Limits(stall=0.3))
    await commit(sqlite_url, user, 40, meta={"x": "y" * 200_000})
    async with served(app) as place, following(place, user) as beside:
        await beside.hear_until("caught_up")
        tasks = len(asyncio.all_tasks())
        async with requested(place, f"/events/{user}") as http:
            await until(http, "caught_up")
            assert app.state.hub.statistics.readers == 2
        with deaf(place, f"/events/{user}?last=40"):
            await settled(lambda: slow_closes(app) == 1)
        await settled(lambda: app.state.hub.statistics.readers == 1)
        await settled(lambda: len(asyncio.all_tasks()) <= tasks)
