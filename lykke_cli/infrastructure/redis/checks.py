"""What `lykke doctor` asks of Redis: nothing that changes anything or that a subscriber would see.

Each question is one command on a connection without retries. Redis decides whether a user may run a
command when it is queued in MULTI, so the right to PUBLISH is known without anything published.
"""

import asyncio
import ssl
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from lykke_cli.application.doctor import (
    Check,
    ClockReading,
    Finding,
    failed,
    ok,
    skipped,
    warning,
)
from lykke_cli.application.errors import LoginRefused
from lykke_cli.application.gateways.pubsub_protocol import channel_name
from lykke_cli.infrastructure.configuration.tls import is_loopback
from lykke_cli.infrastructure.configuration.transport import Transport, keeps_messages
from lykke_cli.infrastructure.redis.client import plain_connection
from lykke_cli.infrastructure.redis.errors import redis_errors, refused_as, translate
from lykke_cli.infrastructure.redis.lent_connection import stream_of
from lykke_cli.infrastructure.redis.relay_checks import check_relay
from lykke_cli.infrastructure.redis.topology import at
from lykke_cli.infrastructure.redis.topology_checks import check_topology
from lykke_cli.infrastructure.redis.urls import (
    Node,
    RedisAddress,
    parse_redis_url,
    shown,
    topology_of,
)

PINGS = 5
SLOW = 0.25  # seconds of a round trip
SMALL_BUFFER = 8 * 2**20  # bytes a subscriber may lag behind before it is cut off
MEBIBYTE = 2**20
_REACHABLE, _LOGIN = "redis.reachable", "redis.login"


class RedisChecks:
    """The checks on the Redis at `url`; an async context manager that closes its connection.

    `channel_type` is that of the channels whose rights are tried; `timeout`, in seconds, is for
    connecting and for each answer.
    """

    def __init__(self, url: str, channel_type: str, *, timeout: float) -> None:
        self._url = url
        self._channel_type = channel_type
        self._timeout = timeout
        self._address: RedisAddress | None = None
        self._connection: AbstractConnection | None = None
        self._refused: LoginRefused | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    def checks(self) -> list[Check]:
        """In the order in which they are to be made."""
        needs = [_LOGIN]
        kind = topology_of(self._url)
        topology = [Check(f"redis.{kind}", self._topology, [_REACHABLE])] if kind else []
        relay = [Check("redis.relay", self._relay, needs)] if keeps_messages(self._url) else []
        return [
            Check(_REACHABLE, self._reachable),
            *topology,
            Check("redis.tls", self._tls, [_REACHABLE]),
            Check(_LOGIN, self._login, [_REACHABLE]),
            Check("redis.version", self._version, needs),
            Check("redis.round-trip", self._round_trip, needs),
            Check("redis.right.subscribe", self._may_subscribe, needs),
            Check("redis.right.psubscribe", self._may_psubscribe, needs),
            Check("redis.right.publish", self._may_publish, needs),
            Check("redis.right.ping", self._may_ping, needs),
            Check("redis.right.pubsub", self._may_pubsub, needs),
            Check("redis.loop-back", self._loop_back, needs),
            Check("redis.output-buffer", self._output_buffer, needs),
            *relay,
        ]

    async def _relay(self) -> Finding:
        return await check_relay(self._known(), self._channel_type, timeout=self._timeout)

    async def read_clock(self) -> ClockReading | None:
        if self._connection is None:
            return None
        started, before = datetime.now(UTC).timestamp(), time.perf_counter()
        try:
            seconds, microseconds = await self._ask("TIME")
        except (exceptions.ResponseError, ValueError, TypeError):
            return None
        took = time.perf_counter() - before
        there = int(seconds) + int(microseconds) / 1e6
        return ClockReading("Redis", there - started - took / 2, took / 2)

    async def _reachable(self) -> Finding:
        self._address = address = parse_redis_url(self._url)
        before = time.perf_counter()
        try:
            with redis_errors(address.display):
                connection = await self._stack.enter_async_context(self._connected())
                # Without a password the server says only now whether it wants one.
                await self._is_permitted("PING", connection=connection)
                self._connection = connection
        except LoginRefused as error:
            self._refused = error
        took = (time.perf_counter() - before) * 1000
        where = address.display
        if address.among is not None and self._connection is not None:
            node = _node(self._connection)
            self._address, where = at(address, node), f"{where}: {shown(node)}"
        return ok(f"{where} answers; connected in {took:.1f} ms")

    async def _topology(self) -> Finding:
        assert self._connection is not None
        return await check_topology(self._known(), _node(self._connection), self._timeout)

    async def _login(self) -> Finding:
        if self._refused is not None:
            raise self._refused
        try:
            user = _text(await self._ask("ACL", "WHOAMI"))
        except exceptions.ResponseError:
            user = self._known().options.get("username") or "default"
        return ok(f"as user {user}")

    async def _tls(self) -> Finding:
        address = self._known()
        options = address.options
        if "path" in options:
            return ok("not needed: a Unix socket")
        connection = self._connection
        if address.display.startswith("rediss:"):
            if options.get("ssl_cert_reqs") == "none":
                return warning(
                    "in use, but the server's certificate is not checked",
                    "Take ssl_cert_reqs=none out of the URL, and name the authority that signed "
                    "the certificate with ssl_ca_certs=FILE.",
                )
            version = "" if connection is None else f", {_tls_version(connection)}"
            return ok(f"in use, the certificate is checked{version}")
        host = str(options.get("host", "localhost"))
        if not options.get("password") or is_loopback(host):
            return ok("not in use" + ("" if options.get("password") else "; no password is sent"))
        return warning(
            f"not in use: the password goes to {host} in clear text", "Use rediss:// in the URL."
        )

    async def _version(self) -> Finding:
        answer = await self._hello()
        name, version = answer.get("server", "redis"), answer.get("version", "of unknown version")
        text = f"{name} {version}, {answer.get('mode', 'standalone')}"
        if answer.get("role") in ("replica", "slave"):
            return warning(
                f"{text}, a replica: what is published here reaches only its own subscribers",
                "Set REDIS_URL to the primary server.",
            )
        return ok(text)

    async def _hello(self) -> dict[str, str]:
        """Every user may say HELLO; only servers before Redis 6 do not know it."""
        try:
            answer = await self._ask("HELLO", "2")
        except exceptions.ResponseError:
            return {}
        return {_text(key): _text(answer[i + 1]) for i, key in enumerate(answer) if i % 2 == 0}

    async def _round_trip(self) -> Finding:
        took = []
        for _ in range(PINGS):
            before = time.perf_counter()
            await self._is_permitted("PING")  # a refusal takes as long
            took.append(time.perf_counter() - before)
        median = statistics.median(took)
        text = f"{median * 1000:.2f} ms (median of {PINGS})"
        if median > SLOW:
            return warning(text, "Run lykke nearer to the server, or look for what slows it down.")
        return ok(text)

    async def _may_subscribe(self) -> Finding:
        channel = channel_name(self._channel_type, uuid4())
        command = f"{self._mark}SUBSCRIBE"
        if await self._may_listen(command, channel):
            return ok(f"{command} {self._pattern}")
        return failed(
            f"this user may not {command} to {self._pattern}: lykke tail USER_ID will not work",
            self._grant(command.lower()),
        )

    async def _may_psubscribe(self) -> Finding:
        if self._mark:
            return skipped("sharded Pub/Sub has no subscription to every user")
        if await self._may_listen("PSUBSCRIBE", self._pattern):
            return ok(f"PSUBSCRIBE {self._pattern}")
        return warning(
            f"this user may not PSUBSCRIBE to {self._pattern}: lykke tail --all will not work",
            self._grant("psubscribe"),
        )

    async def _may_publish(self) -> Finding:
        command = f"{self._mark}PUBLISH"
        may = await self._may_queue(command, channel_name(self._channel_type, uuid4()), "{}")
        if may is None:
            return skipped(
                "cannot be tried without publishing: this user may neither MULTI nor ACL DRYRUN",
                "Run lykke doctor --write, which publishes.",
            )
        if may:
            return ok(f"{command} {self._pattern}")
        return warning(
            f"this user may not {command} to {self._pattern}: publish, record, "
            "backfill --replay and tail --ack will not work",
            self._grant(command.lower()),
        )

    async def _may_ping(self) -> Finding:
        if await self._is_permitted("PING"):
            return ok("PING")
        return ok("not permitted, and not needed: a refusal is a sign of life, too")

    async def _may_pubsub(self) -> Finding:
        channel = channel_name(self._channel_type, uuid4())
        if await self._is_permitted("PUBSUB", "NUMSUB", channel):
            return ok("PUBSUB")
        return warning(
            "this user may not ask for subscribers (PUBSUB): lists of channels will not work",
            "ACL SETUSER <user> +pubsub",
        )

    async def _loop_back(self) -> Finding:
        channel, nonce = f"lykke-doctor:{uuid4()}", uuid4().hex.encode()
        async with self._connected() as listener:
            if not await self._is_permitted("SUBSCRIBE", channel, connection=listener):
                return skipped("this user may not subscribe to a channel outside its own")
            before = time.perf_counter()
            if not await self._is_permitted("PUBLISH", channel, nonce):
                return skipped("this user may not publish to a channel outside its own")
            with redis_errors(self._known().display):
                said = await listener.read_response(timeout=self._timeout / 2)
        took = (time.perf_counter() - before) * 1000
        if isinstance(said, list) and said[-1] == nonce:
            return ok(f"a message came back after {took:.1f} ms")
        return failed(
            "a published message did not come back",
            "Is there a proxy that does not pass Pub/Sub on, or another server behind the name?",
        )

    async def _output_buffer(self) -> Finding:
        try:
            answer = await self._ask("CONFIG", "GET", "client-output-buffer-limit")
            words = _text(answer[1]).split()
            at = words.index("pubsub")
            hard, soft, seconds = (int(word) for word in words[at + 1 : at + 4])
        except exceptions.ResponseError:
            return skipped("this user may not read the configuration", "+config|get permits it.")
        except (ValueError, IndexError, TypeError):
            return skipped("the server does not tell")
        if hard == 0 and soft == 0:
            return ok("without a limit: no slow subscriber is cut off")
        text = (
            f"a subscriber is cut off when it is {_size(hard)} behind, or {_size(soft)} for "
            f"{seconds} s"
        )
        if 0 < hard < SMALL_BUFFER or (0 < soft < SMALL_BUFFER // 8 and seconds < 10):
            return warning(
                text,
                "CONFIG SET client-output-buffer-limit 'pubsub 33554432 8388608 60' is Redis's "
                "own default.",
            )
        return ok(text)

    @property
    def _mark(self) -> str:
        return "S" if self._known().transport is Transport.SHARDED else ""

    @property
    def _pattern(self) -> str:
        return channel_name(self._channel_type, None)

    def _grant(self, command: str) -> str:
        return f"ACL SETUSER <user> +{command} &{self._pattern}"

    def _known(self) -> RedisAddress:
        assert self._address is not None  # the first check has read the URL
        return self._address

    async def _may_listen(self, command: str, channel: str) -> bool:
        async with self._connected() as connection:
            return await self._is_permitted(command, channel, connection=connection)

    async def _may_queue(self, *command: str) -> bool | None:
        """Whether the command would be permitted; None where the server cannot be asked."""
        async with self._connected() as connection:
            if await self._is_permitted("MULTI", connection=connection):
                return await self._is_permitted(*command, connection=connection)
            try:
                user = await self._ask("ACL", "WHOAMI")
                return _text(await self._ask("ACL", "DRYRUN", user, *command)) == "OK"
            except exceptions.ResponseError:
                return None

    async def _is_permitted(
        self, *command: str | bytes, connection: AbstractConnection | None = None
    ) -> bool:
        with redis_errors(self._known().display):
            try:
                await self._ask(*command, connection=connection)
            except exceptions.NoPermissionError:
                return False
            except exceptions.ResponseError as error:
                if refused_as(error) is not exceptions.MovedError:
                    raise
                # It is permitted, and of another node's channel.
        return True

    async def _ask(self, *command: Any, connection: AbstractConnection | None = None) -> Any:
        """The answer; raises redis-py's ResponseError for a refusal, and ServerUnavailable."""
        connection = connection or self._connection
        assert connection is not None
        try:
            await connection.send_command(*command, check_health=False)
            return await connection.read_response()
        except exceptions.ResponseError:
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error, self._known().display) from error

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[AbstractConnection]:
        """A connection as the URL says, which ends with the block; raises ServerUnavailable."""
        address = self._known()
        limits = {"socket_timeout": self._timeout, "socket_connect_timeout": self._timeout}
        options = plain_connection(address.pool_options() | limits, name=None)
        make = options.pop("connection_class")
        connection: AbstractConnection = make(**options)
        try:
            with redis_errors(address.display):
                await connection.connect()  # type: ignore[no-untyped-call]
            yield connection
        finally:
            await connection.disconnect(nowait=True)
            await asyncio.sleep(0)  # in which the loop closes the socket


def _node(connection: AbstractConnection) -> Node:
    return getattr(connection, "host", ""), getattr(connection, "port", 0)


def _tls_version(connection: AbstractConnection) -> str:
    writer = stream_of(connection)
    socket = None if writer is None else writer.get_extra_info("ssl_object")
    return str(socket.version()) if isinstance(socket, ssl.SSLObject) else "TLS"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _size(count: int) -> str:
    return f"{count / MEBIBYTE:g} MiB" if count else "no size"
