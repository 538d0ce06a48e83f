"""A primary, its replica, and three Sentinels that watch them, all on loopback."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import redis

from tests.faults.proxy import Proxy
from tests.servers import RedisServer, redis_binary, wait_until

SERVICE = "lykke-test"
DOWN_AFTER = 500  # milliseconds of silence


class Sentinel(RedisServer):
    """Its configuration file is its own: it is written again and again."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._watched = port  # where the primary is found

    def _command(self, port: int) -> tuple[list[str], dict[str, Any]]:
        file = self.folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self.folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._watched} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
                f"sentinel failover-timeout {SERVICE} 3000\n"
            )
        return [str(redis_binary()), str(file), "--sentinel"], {}

    def _answers(self, port: int) -> bool:
        try:
            with redis.Redis(port=port, socket_timeout=1) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class Watched:
    """The whole of it, for the length of a block.

    With `fronts`, five, the primary, the replica and the Sentinels are found behind one each.
    """

    def __init__(self, fronts: Sequence[Proxy] = ()) -> None:
        self._fronts = fronts
        self._found_at: dict[RedisServer, int] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            own = ("--repl-diskless-sync-delay", "0")
            self.primary = stack.enter_context(RedisServer(*own, *self._announced(0)))
            port = self._place(self.primary)
            following = ("--replicaof", f"127.0.0.1 {port}")
            self.replica = stack.enter_context(RedisServer(*following, *self._announced(1)))
            self._place(self.replica)
            wait_until(self._is_replicating, "the replica follows")
            self.sentinels = [stack.enter_context(Sentinel(port)) for _ in range(3)]
            for sentinel in self.sentinels:
                self._place(sentinel)
            wait_until(self._is_watched, "the Sentinels know each other and the replica")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        ports = [self.found_at(sentinel) for sentinel in self.sentinels]
        nodes = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"redis+sentinel://{nodes}/{SERVICE}/0"

    def found_at(self, server: RedisServer) -> int:
        """The port by which the Sentinels and the clients come to it."""
        return self._found_at[server]

    def _announced(self, number: int) -> tuple[str, ...]:
        """Which port another server is told."""
        return ("--replica-announce-port", str(self._fronts[number].port)) if self._fronts else ()

    def _place(self, server: RedisServer) -> int:
        port = server.port
        if self._fronts:
            front = self._fronts[len(self._found_at)]
            front.lead_to(port)
            port = front.port
        self._found_at[server] = port
        return port

    def is_primary(self, server: RedisServer) -> bool:
        """Whether most Sentinels say so."""
        votes = 0
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                _, port = client.sentinel_get_master_addr_by_name(SERVICE)
                votes += port == self.found_at(server)
        return votes >= 2

    def wait_for_fail_over(self, server: RedisServer) -> None:
        """Until `server` is the primary, and the Sentinels say so."""
        wait_until(lambda: self.is_primary(server), "a fail-over", 30)

    def _is_replicating(self) -> bool:
        with self.replica.client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    def _is_watched(self) -> bool:
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                state = client.sentinel_master(SERVICE)
            if (state["num-other-sentinels"], state["num-slaves"]) != (2, 1):
                return False
        return True
