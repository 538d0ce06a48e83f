"""Behind nginx, with the lines of docs/serve.md: nothing is held back, a reload loses nothing."""

import asyncio
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bridge_clients import Address, assert_each_got_all_once, following
from tests.builders import entity, insert
from tests.faults.nginx import NAME, Nginx, needs_nginx
from tests.faults.writer import Writer
from tests.servers import PostgresServer, RedisServer, free_port
from tests.serving import TOKEN, TOKENS, Serving
from tests.tls import Authority

pytestmark = needs_nginx
OPTIONS = ("--hostname", NAME, "--drain", "1s", "--reconcile", "500ms")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def env(postgres_reader_url: str, redis_url: str) -> dict[str, str]:
    return TOKENS | {"REDIS_URL": redis_url, "DATABASE_URL": postgres_reader_url}


@pytest.fixture
def bridge(env: dict[str, str]) -> Iterator[Serving]:
    with Serving(*OPTIONS, env=env) as serving:
        yield serving


@pytest.fixture
def writer(
    postgres_server: PostgresServer, postgres_database: str, redis_server: RedisServer
) -> Iterator[Writer]:
    with Writer(postgres_server, postgres_database, redis_server, lose=0.3) as writing:
        yield writing


def through(nginx: Nginx, authority: Authority) -> Address:
    context = ssl.create_default_context(cafile=str(authority.file))
    return Address(nginx.port, NAME, context)


async def test_an_entry_is_passed_on_when_it_comes(
    bridge: Serving, authority: Authority, postgres_url: str
) -> None:
    user = uuid.uuid4()
    with Nginx(bridge.address.port, authority) as nginx:
        address = through(nginx, authority)
        async with following(address, user, TOKEN, sockets=1, streams=1) as followers:
            for count in (1, 2):
                await insert(postgres_url, [entity(user)])
                for follower in followers:
                    await follower.until(count)
                    assert not follower.closes


async def test_a_reload_cuts_old_connections_in_the_end_and_loses_nothing(
    bridge: Serving, authority: Authority, writer: Writer, redis_server: RedisServer
) -> None:
    with Nginx(bridge.address.port, authority, patience="1s") as nginx:
        address = through(nginx, authority)
        async with following(address, writer.user, TOKEN, sockets=3, streams=3) as followers:
            await asyncio.to_thread(writer.wait_for, 50)
            nginx.reload()
            for follower in followers:
                await follower.until_connected(2)
            await asyncio.to_thread(writer.wait_for, 20)
            await assert_each_got_all_once(followers, writer, redis_server)


async def test_a_restart_of_the_bridge_reaches_clients_through_it(
    env: dict[str, str], authority: Authority, writer: Writer, redis_server: RedisServer
) -> None:
    port = free_port()
    with Serving(*OPTIONS, "--port", port, env=env) as bridge, Nginx(port, authority) as nginx:
        address = through(nginx, authority)
        async with following(address, writer.user, TOKEN, sockets=3, streams=3) as followers:
            await asyncio.to_thread(writer.wait_for, 50)
            assert (await asyncio.to_thread(bridge.stop)).status == 0
            for follower in followers:
                await follower.until_cut_off()
            assert [follower.closes[0][1] for follower in followers[:3]] == [1012] * 3
            bridge.start()
            for follower in followers:
                await follower.until_connected(2)
            await asyncio.to_thread(writer.wait_for, 20)
            await assert_each_got_all_once(followers, writer, redis_server)


async def test_figures_are_not_for_everybody(bridge: Serving, authority: Authority) -> None:
    with Nginx(bridge.address.port, authority) as nginx:
        context = ssl.create_default_context(cafile=str(authority.file))
        reader, stream = await asyncio.open_connection(
            "127.0.0.1", nginx.port, ssl=context, server_hostname=NAME
        )
        stream.write(f"GET /metrics HTTP/1.0\r\nHost: {NAME}\r\n\r\n".encode())
        assert b" 403 " in await reader.readline()
        stream.close()
        await stream.wait_closed()
