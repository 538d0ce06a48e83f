"""What a client of `/ws` is promised, on real servers."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from lykke_cli import AuditLogEntity, RedisPubSubGateway, SqlAlchemyUnitOfWork
from lykke_cli.web import Grant, Limits, make_app
from tests.bridges import commit, connected, following, get, publish, record, served
from tests.builders import entity, insert, wire
from tests.integration.infrastructure.sqlite.test_history import copy
from tests.integration.web.conftest import Make
from tests.servers import RedisServer


async def test_what_an_application_records_comes_to_its_user_s_browser(
    redis_url: str, database_url: str, user: uuid.UUID
) -> None:
    entry = AuditLogEntity.create_task_completed(user, uuid.uuid4(), {"n": 1})
    async with (
        served(make_app(redis_url=redis_url, database_url=database_url)) as place,
        following(place, user) as client,
        RedisPubSubGateway(redis_url) as gateway,
    ):
        assert (await client.hear())["type"] == "caught_up"
        unit_of_work = SqlAlchemyUnitOfWork(database_url, gateway)
        async with unit_of_work:
            await unit_of_work.create(entry)
        await unit_of_work.close()
        frame = await client.hear()
    assert frame["type"] == "auditlog" and frame["data"]["id"] == str(entry.id)
    assert frame["data"]["meta"] == {"n": 1} and frame["cursor"]


async def test_who_comes_back_gets_what_was_committed_meanwhile_and_nothing_twice(
    make: Make, redis_url: str, database_url: str, user: uuid.UUID
) -> None:
    app = make(database_url=database_url)
    async with served(app) as place, following(place, user, last=100) as client:
        first = await commit(database_url, user, 3)
        live = await record(database_url, redis_url, user)
        await client.entries(1)
    missed = await commit(database_url, user, 3)
    other = make(database_url=database_url)  # another process, with the same key
    async with served(other) as place, connected(place, user) as again:
        await again.say(type="resume", cursor=client.cursor)
        subscribed = await again.hear()
        assert (subscribed["type"], subscribed["recovered"], subscribed["exact"]) == (
            "subscribed",
            True,
            True,
        )
        await again.hear_until("caught_up")
    assert sorted(client.ids + again.ids) == sorted([*first, live, *missed])


async def test_who_is_connected_is_told_where_the_database_is_restored_from_a_backup(
    make: Make, sqlite_url: str, user: uuid.UUID, tmp_path: Path
) -> None:
    file, backup = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "backup.db"
    async with served(make(reconcile_interval=0.05)) as place:
        async with following(place, user) as client:
            await client.hear_until("caught_up")
            await commit(sqlite_url, user, 3)
            await client.entries(3)
            copy(file, backup)
            await commit(sqlite_url, user, 5)
            await client.entries(8)
            [*_, last] = (await get(place, f"/history/{user}?cursor={client.cursor}")).lines
            copy(backup, file)
            notice = await client.hear_until("notice")
            assert "restored" in notice["message"] and "second time" in notice["message"]
            new = await commit(sqlite_url, user, 1)
            assert (await client.entries(9))[-1:] == new
        history = await get(place, f"/history/{user}?cursor={last['cursor']}")
        assert history.lines[0] == notice
        async with following(place, user, cursor=last["cursor"]) as again:
            assert await again.hear_until("notice") == notice


async def test_history_comes_first_then_what_is_live(
    place: str, redis_url: str, sqlite_url: str, user: uuid.UUID
) -> None:
    old = await commit(sqlite_url, user, 5)
    async with following(place, user, "?last=2") as client:
        await client.hear_until("caught_up")
        assert client.ids == old[-2:]
        new = await record(sqlite_url, redis_url, user)
        assert (await client.entries(3))[-1] == new
    async with following(place, user, since="1h") as client:
        await client.hear_until("caught_up")
        assert client.ids == [*old, new]


async def test_who_is_cut_off_in_a_long_history_goes_on_after_the_last_frame(
    place: str, sqlite_url: str, user: uuid.UUID
) -> None:
    """Each frame has a cursor that covers it, though much is read at once."""
    many = await commit(sqlite_url, user, 1_200)
    many += await commit(sqlite_url, user, 40, meta={"text": "x" * 20_000})
    where: dict[str, Any] = {"since": "1h"}
    ids = list[str]()
    for frames in (1, 2, 3, 100):
        async with following(place, user, **where) as client:
            while frames and (frame := await client.hear())["type"] != "caught_up":
                assert frame["cursor"]
                frames -= 1
        ids += client.ids
        where = {"cursor": client.cursor}
    assert ids == many


async def test_who_says_nothing_begins_from_now_on(
    make: Make, sqlite_url: str, user: uuid.UUID
) -> None:
    await commit(sqlite_url, user, 1)
    async with served(make(limits=Limits(handshake=0.1))) as place:
        async with connected(place, user) as client:
            assert (await client.hear())["from"] == "now"
            assert (await client.hear())["type"] == "caught_up"
            assert client.ids == []


async def test_two_bridges_tell_their_clients_the_same(
    make: Make, redis_url: str, sqlite_url: str, user: uuid.UUID
) -> None:
    async with served(make()) as one, served(make()) as two:
        async with following(one, user) as here, following(two, user) as there:
            for client in (here, there):
                await client.hear_until("caught_up")
            await here.say(broadcast=True, data="hello")
            assert (await there.hear_until("client_broadcast"))["data"] == "hello"
            new = await record(sqlite_url, redis_url, user)
            assert await here.entries(1) == await there.entries(1) == [new]


async def test_a_client_without_the_sub_protocol_gets_the_plain_shapes(
    place: str, redis_url: str, sqlite_url: str, user: uuid.UUID
) -> None:
    old = await commit(sqlite_url, user, 2)
    async with connected(place, user, "?last=2", protocols=()) as client:
        assert client.socket.subprotocol is None
        for id in old:
            frame = await client.hear()
            assert set(frame) == {"type", "data"} and frame["data"]["id"] == id
        new = await record(sqlite_url, redis_url, user)
        publish(redis_url, user, b'{"type":"test","n":1}', b"[1]")
        assert (await client.hear())["data"]["id"] == new
        assert await client.hear() == {"type": "test", "n": 1}
        assert (await client.hear())["type"] == "message"
        await client.say(broadcast=True, data=1)
        assert (await client.hear())["type"] == "client_broadcast"


async def test_a_broadcast_and_an_acknowledgment_reach_the_others_with_who_sent_them(
    make: Make, user: uuid.UUID
) -> None:
    async def authorize(token: str | None, scope: Any) -> Grant:
        return Grant(subject=token or "?", scopes=frozenset({"read", "publish"}), user_id=user)

    async with served(make(authorize=authorize)) as place:
        async with (
            connected(place, user, protocols=("lykke.v1", "bearer.ann")) as ann,
            connected(place, user, additional_headers={"Authorization": "Bearer bob"}) as bob,
        ):
            assert ann.socket.subprotocol == "lykke.v1"
            for client in (ann, bob):
                await client.say(type="resume")
                await client.hear_until("caught_up")
            await ann.say(broadcast=True, data={"id": "x"}, **{"from": "eve"})
            heard = await bob.hear_until("client_broadcast")
            assert heard.pop("sent_at").endswith("Z")
            assert heard == {"type": "client_broadcast", "data": {"id": "x"}, "from": "ann"}
            id = str(uuid.uuid4())
            await bob.say(type="acknowledgment", event_id=id, **{"from": "eve"}, note="seen")
            heard = await ann.hear_until("acknowledgment")
            assert heard.pop("received_at").endswith("Z")
            assert heard == {
                "type": "acknowledgment",
                "event_id": id,
                "from": "bob",
                "note": "seen",
            }


async def test_no_client_can_publish_what_looks_like_an_entry(place: str, user: uuid.UUID) -> None:
    forged = json.loads(wire(entity(user)))
    async with following(place, user) as client:
        await client.hear_until("caught_up")
        for message in (
            forged,
            forged | {"broadcast": True, "data": forged},
            forged | {"type": "acknowledgment", "event_id": str(uuid.uuid4())},
            {"type": "auditlog", "data": forged},
        ):
            await client.say(**message)
            heard = await client.hear()
            assert heard["type"] in ("error", "client_broadcast", "acknowledgment")
        assert client.ids == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("no json", "not_json"),
        ("[]", "not_json"),
        ('{"type":"dance"}', "unknown_message"),
        (b"\xff\xfe", "not_json"),
        ('{"type":"resume"}', "bad_request"),
        ('{"type":"acknowledgment"}', "bad_request"),
    ],
)
async def test_what_is_not_understood_is_answered_and_the_connection_goes_on(
    place: str, user: uuid.UUID, said: str | bytes, code: str
) -> None:
    async with following(place, user) as client:
        await client.hear_until("caught_up")
        await client.socket.send(said)
        error = await client.hear()
        assert (error["type"], error["code"], error["temporary"]) == ("error", code, False)
        await client.say(broadcast=True, data=1)
        assert (await client.hear())["type"] == "client_broadcast"


@pytest.mark.parametrize(
    ("first", "query"),
    [
        ({"type": "resume", "cursor": "forged"}, ""),
        ({"type": "dance"}, ""),
        (None, "?cursor=forged"),
        (None, "?sinec=1h"),
        (None, "?grep=("),
    ],
)
async def test_a_beginning_that_is_not_understood_closes_with_4400(
    place: str, user: uuid.UUID, first: dict[str, Any] | None, query: str
) -> None:
    async with connected(place, user, query) as client:
        if first is not None:
            await client.say(**first)
        error = await client.hear()
        assert error["type"] == "error" and error["message"].endswith(".")
        assert await client.closed() == 4400


async def test_the_filters_of_the_query_hold_for_all_that_comes(
    place: str, redis_url: str, sqlite_url: str, user: uuid.UUID
) -> None:
    await commit(sqlite_url, user, 2, activity_type="TASK_PUNTED")
    old = await commit(sqlite_url, user, 1, activity_type="MESSAGE_SENT")
    async with following(place, user, "?activity_type=MESSAGE_*&not_grep=secret", last=5) as client:
        await client.hear_until("caught_up")
        shown, hidden = (
            entity(user, activity_type="MESSAGE_SENT", meta={"x": x}) for x in ("open", "secret")
        )
        await insert(sqlite_url, [hidden, shown])
        publish(redis_url, user, wire(hidden), b'{"type":"test"}', wire(shown))
        assert await client.entries(2) == [*old, str(shown.id)]


async def test_an_outage_of_redis_is_told_and_made_up_for(
    own_redis: RedisServer, make: Make, sqlite_url: str, user: uuid.UUID
) -> None:
    app = make(redis_url=own_redis.url, limits=Limits(heartbeat=1.0))
    async with served(app) as place, following(place, user) as client:
        await client.hear_until("caught_up")
        own_redis.kill()
        status = await client.hear_until("status")
        assert status["state"] == "redis_away" and status["since"].endswith("Z")
        await client.say(broadcast=True, data=1)
        error = await client.hear_until("error")
        assert (error["code"], error["temporary"]) == ("unavailable", True)
        assert str(own_redis.port) not in error["message"]
        missed = await commit(sqlite_url, user, 2)
        own_redis.start()
        heard = set[str]()
        while not heard >= {"caught_up", "live", "auditlog_batch"}:
            frame = await client.hear()
            heard.add(str(frame.get("state", frame["type"])))
    assert client.ids == missed


async def test_a_heartbeat_brings_the_cursor(make: Make, user: uuid.UUID) -> None:
    async with served(make(limits=Limits(heartbeat=0.1))) as place:
        async with following(place, user) as client:
            await client.hear_until("caught_up")
            for _ in range(2):
                beat = await client.hear()
                assert beat["type"] == "heartbeat" and beat["cursor"]


async def test_a_client_of_every_user_has_everything_once_beside_those_of_one(
    own_redis: RedisServer, make: Make, database_url: str
) -> None:
    """Live, through an outage of Redis, and on another process."""
    users = [uuid.uuid4() for _ in range(3)]
    settings = {"redis_url": own_redis.url, "database_url": database_url}
    async with (
        served(make(**settings)) as place,
        following(place, users[0]) as single,
        following(place, None) as everybodys,
    ):
        for client in (single, everybodys):
            await client.hear_until("caught_up")
        live = [await record(database_url, own_redis.url, user) for user in users]
        assert await everybodys.entries(3) == live
        own_redis.kill()
        await everybodys.hear_until("status")
        missed = [id for user in users for id in await commit(database_url, user, 1)]
        own_redis.start()
        assert set(await everybodys.entries(6)) == {*live, *missed}
        assert await single.entries(2) == [live[0], missed[0]]
    later = [id for user in users for id in await commit(database_url, user, 1)]
    async with served(make(**settings)) as place, connected(place, None) as again:
        await again.say(type="resume", cursor=everybodys.cursor)
        subscribed = await again.hear()
        assert subscribed["user_id"] is None and subscribed["recovered"] and subscribed["exact"]
        assert set(await again.entries(3)) == set(later)
        await again.hear_until("caught_up")
    assert (len(everybodys.ids), len(again.ids)) == (6, 3)


async def test_a_cursor_of_every_user_is_for_no_single_one_nor_the_other_way_round(
    place: str, user: uuid.UUID
) -> None:
    async with following(place, user) as single, following(place, None) as everybodys:
        for client in (single, everybodys):
            await client.hear_until("caught_up")
        for followed, cursor in ((user, everybodys.cursor), (None, single.cursor)):
            async with connected(place, followed) as refused:
                await refused.say(type="resume", cursor=cursor)
                assert (await refused.hear())["code"] == "cursor_refused"
                assert await refused.closed() == 4400


async def test_every_user_is_for_who_has_the_scope(make: Make, user: uuid.UUID) -> None:
    async def authorize(token: str | None, scope: Any) -> Grant:
        return Grant(subject="ann", scopes=frozenset({"read", str(token)}))

    async with served(make(authorize=authorize)) as place:
        async with connected(place, None, protocols=("lykke.v1", "bearer.publish")) as client:
            assert "all-users" in (await client.hear())["message"]
            assert await client.closed() == 4403
        async with connected(place, None, protocols=("lykke.v1", "bearer.all-users")) as client:
            await client.say(type="resume")
            await client.hear_until("caught_up")
        for path in ("/events", "/history"):
            answer = await get(place, path, {"Authorization": "Bearer publish"})
            assert answer.status == 403 and "all-users" in answer.lines[0]["message"]


async def test_who_follows_every_user_says_to_whose_channel_a_message_goes(
    place: str, user: uuid.UUID
) -> None:
    async with following(place, user) as single, following(place, None) as everybodys:
        for client in (single, everybodys):
            await client.hear_until("caught_up")
        for wrong in ({}, {"user_id": "me"}, {"user_id": 1}):
            await everybodys.say(broadcast=True, data=1, **wrong)
            error = await everybodys.hear_until("error")
            assert error["code"] == "bad_request" and "user_id" in error["message"]
        await everybodys.say(broadcast=True, data=2, user_id=str(user))
        await everybodys.say(type="acknowledgment", event_id="e", user_id=str(user))
        for client in (single, everybodys):
            assert (await client.hear_until("client_broadcast"))["data"] == 2
            acknowledged = await client.hear_until("acknowledgment")
            assert acknowledged["event_id"] == "e" and "user_id" not in acknowledged
