"""URLs that name several hosts, of which some are silent, down, or of the wrong kind."""

import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import quote

import pytest

from lykke_cli.application.errors import LoginRefused, ServerUnavailable
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.cli_process import run_lykke
from tests.faults.standby import Standby
from tests.servers import ADMIN_PASSWORD, PostgresServer, RedisServer, free_port

USER = uuid.uuid4()


def listening(backlog: int) -> tuple[socket.socket, int]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener, listener.getsockname()[1]


@pytest.fixture(params=["says nothing", "drops what comes"])
def silent(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a host that takes a connection and says nothing, or does not even take it."""
    with ExitStack() as stack:
        full = request.param == "drops what comes"
        listener, port = listening(0 if full else 9)
        stack.enter_context(listener)
        for _ in range(4 if full else 0):  # the queue of those to be accepted
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def url(database: str, *ports: int, more: str = "", password: str = ADMIN_PASSWORD) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://postgres:{quote(password, safe='')}@{hosts}/{database}{more}"


def by_options(database: str, *ports: int) -> str:
    hosts, numbers = ",".join(["127.0.0.1"] * len(ports)), ",".join(map(str, ports))
    return (
        f"postgresql://postgres:{quote(ADMIN_PASSWORD, safe='')}@/{database}"
        f"?host={hosts}&port={numbers}"
    )


async def count(url: str) -> int:
    async with PostgresHistory(url) as history:
        return await history.count(Selection(user_ids={USER}))


@pytest.mark.parametrize("spelled", [url, by_options])
async def test_a_silent_host_leaves_the_others_their_time(
    postgres_server: PostgresServer,
    postgres_database: str,
    silent: int,
    spelled: Callable[..., str],
) -> None:
    assert (
        await count(spelled(postgres_database, silent, free_port(), silent, postgres_server.port))
        == 0
    )


@pytest.mark.parametrize("arguments", [("record", USER, "X"), ("stats", USER), ("doctor",)])
def test_whatever_connects_goes_on_to_the_next(
    postgres_server: PostgresServer,
    postgres_database: str,
    redis_server: RedisServer,
    silent: int,
    arguments: tuple[object],
) -> None:
    env = {
        "DATABASE_URL": url(postgres_database, silent, postgres_server.port),
        "REDIS_URL": redis_server.url,
    }
    assert run_lykke(*arguments, env=env).status == ExitCode.DONE


async def test_where_none_answers_it_is_told(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lykke_cli.infrastructure.postgresql.connection.CONNECT_TIMEOUT", 0.3)
    with pytest.raises(ServerUnavailable, match=r"(timed out|refused)"):
        await count(url("postgres", silent, silent, free_port()))


async def test_a_refused_login_is_not_tried_on_every_host(postgres_server: PostgresServer) -> None:
    with pytest.raises(LoginRefused):
        await count(url("postgres", postgres_server.port, free_port(), password="wrong"))


@pytest.mark.parametrize(
    ("kind", "in_recovery"),
    [("standby", True), ("prefer-standby", True), ("primary", False), ("read-write", False)],
)
async def test_the_kind_of_server_that_is_asked_for_is_found(
    own_postgres: PostgresServer, silent: int, kind: str, in_recovery: bool
) -> None:
    database = own_postgres.make_database()
    with Standby(own_postgres) as standby:
        ports = silent, own_postgres.port, standby.port
        for order in (ports, ports[::-1]):
            async with PostgresHistory(
                url(database, *order, more=f"?target_session_attrs={kind}")
            ) as history:
                [*_, last] = [c async for c in history.begin(Selection(user_ids={USER}))]
            assert last.authoritative is not in_recovery


async def test_with_no_standby_at_hand_the_primary_will_do(
    postgres_server: PostgresServer, postgres_database: str, silent: int
) -> None:
    more = "?target_session_attrs=prefer-standby"
    assert await count(url(postgres_database, silent, postgres_server.port, more=more)) == 0
