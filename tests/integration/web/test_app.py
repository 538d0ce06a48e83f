"""The bridge as an application: its probes, its life, mounted in another, and its end."""

import asyncio
import subprocess
import sys
import uuid

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.exceptions import InvalidStatus

from lykke_cli.application.errors import ServerUnavailable, UsageMistake
from tests.bridges import commit, connected, following, get, requested, served, until
from tests.integration.web.conftest import Make
from tests.servers import RedisServer, free_port


async def test_the_probes_tell_that_it_lives_and_that_it_is_ready(place: str) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await get(place, path, {"Host": "10.0.0.1"})
        assert answer.status == 200 and answer.headers["content-type"] == "application/json"


async def test_it_is_not_ready_where_the_database_was_never_there(make: Make) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    async with served(make(database_url=url)) as place:
        assert (await get(place, "/healthz")).status == 200
        answer = await get(place, "/readyz")
        assert answer.status == 503 and answer.headers["retry-after"] == "1"
        [error] = answer.lines
        assert (error["code"], error["temporary"]) == ("unavailable", True)
        assert "127.0.0.1" not in error["message"]


async def test_it_stays_ready_while_redis_is_away(own_redis: RedisServer, make: Make) -> None:
    app = make(redis_url=own_redis.url)
    async with served(app) as place:
        assert (await get(place, "/readyz")).status == 200
        own_redis.kill()
        await until(lambda: not app.state.hub.is_connected)
        assert (await get(place, "/readyz")).status == 200


async def test_without_redis_at_the_start_it_does_not_begin(make: Make) -> None:
    app = make(redis_url=f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(ServerUnavailable):
        async with app.lifespan():
            pass


async def test_mounted_it_lives_in_the_outer_application_s_lifespan(
    make: Make, sqlite_url: str, user: uuid.UUID
) -> None:
    bridge = make()
    outer = Starlette(routes=[Mount("/audit", bridge)], lifespan=bridge.lifespan)
    [id] = await commit(sqlite_url, user, 1)
    async with served(outer) as place:
        async with following(f"{place}/audit", user, last=1) as client:
            assert await client.entries(1) == [id]
        assert (await get(place, "/audit/readyz")).status == 200
        assert [line["id"] for line in (await get(place, f"/audit/history/{user}")).lines] == [id]


async def test_mounted_without_its_lifespan_it_says_what_to_do(
    make: Make, user: uuid.UUID, caplog: pytest.LogCaptureFixture
) -> None:
    outer = Starlette(routes=[Mount("/audit", make())])
    async with served(outer) as place:
        for path in (f"history/{user}", f"events/{user}", "readyz"):
            answer = await get(place, f"/audit/{path}")
            assert answer.status == 503 and answer.lines[0]["code"] == "unavailable"
        with pytest.raises(InvalidStatus):
            async with connected(f"{place}/audit", user):
                pass
    said = [r.message for r in caplog.records if r.name.startswith("lykke_cli")]
    assert len(said) == 1 and "FastAPI(lifespan=bridge.lifespan)" in said[0]


async def test_a_path_that_is_not_there_and_a_method_that_is_not_are_told_as_json(
    place: str, user: uuid.UUID
) -> None:
    assert (await get(place, "/nowhere")).lines[0]["code"] == "not_found"
    for path in ("/nowhere", "/metrics", "/healthz"):
        assert (await get(place, f"{path}?token=secret")).status == 400
    for method in ("POST", "HEAD"):
        async with requested(place, f"/history/{user}", method=method) as http:
            assert http.status == 405 and "GET" in http.headers["allow"]
    for nowhere in (f"{place}/elsewhere", f"{place}/ws"):
        with pytest.raises(InvalidStatus) as refused:
            async with connected(nowhere, user):
                pass
        assert refused.value.response.status_code == 404


async def test_a_page_of_an_allowed_origin_may_read_the_answer(make: Make, user: uuid.UUID) -> None:
    async with served(make(origins=["https://app.example"])) as place:
        page = {"Origin": "https://app.example"}
        answer = await get(place, f"/history/{user}", page)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        asking = page | {"Access-Control-Request-Method": "GET"}
        async with requested(place, f"/history/{user}", asking, method="OPTIONS") as http:
            assert http.status == 204
        other = await get(place, f"/history/{user}", {"Origin": "https://elsewhere.example"})
        assert other.status == 403 and other.lines[0]["code"] == "not_allowed"


async def test_a_drain_sends_every_client_to_whoever_serves_next(
    make: Make, user: uuid.UUID
) -> None:
    app = make()
    async with (
        served(app) as place,
        following(place, user) as one,
        following(place, user) as two,
        connected(place, user, protocols=()) as plain,
        requested(place, f"/events/{user}") as events,
    ):
        while (await events.event()).get("event") != "caught_up":
            pass
        draining = asyncio.create_task(app.drain(0.3))
        for client in (one, two):
            again = await client.hear_until("reconnect")
            assert 0 <= again["after_ms"] < 5_000
            assert await client.closed() == 1012
        assert await plain.closed() == 1012
        assert (await events.event())["retry"]
        assert (await events.event())["event"] == "reconnect"
        assert await events.event() == {} and events.is_whole
        await draining
        assert (await get(place, "/readyz")).status == 503
        assert (await get(place, "/healthz")).status == 200
        with pytest.raises(InvalidStatus) as refused:
            async with connected(place, user):
                pass
        assert refused.value.response.status_code == 503


async def test_a_drain_is_spread_over_its_time(make: Make) -> None:
    app = make()
    async with served(app) as place:
        clients = [connected(place, uuid.uuid4(), "?last=1") for _ in range(4)]
        sockets = [await client.__aenter__() for client in clients]
        loop, ends = asyncio.get_running_loop(), list[float]()

        async def end(index: int) -> None:
            await sockets[index].closed()
            ends.append(loop.time())

        began = loop.time()
        await asyncio.gather(app.drain(1.0), *(end(index) for index in range(4)))
        assert 0.2 < ends[0] - began < ends[2] - began and ends[3] - began > 0.9
        for client in clients:
            await client.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"database_url": None}, "needs the database"),
        ({"cursor_keys": [b"short"]}, "32 bytes"),
        ({"origins": ["*"]}, "is not an origin"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    make: Make, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageMistake, match=said):
        make(**arguments)


def test_without_the_extra_it_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['starlette'] = None; import lykke_cli.web\n"
        "try: lykke_cli.web.make_app\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "UsageMistake The bridge needs starlette: pip install 'lykke-cli[serve]'\n"
    )
