"""A primary, its replica, and three Sentinels that watch them, all on loopback."""

from contextlib import ExitStack
from typing import Any, Self

import redis

from tests.servers import RedisServer, redis_binary, wait_until

SERVICE = "lykke-test"
DOWN_AFTER = 500  # milliseconds of silence


class Sentinel(RedisServer):
    """Its configuration file is its own: it is written again and again."""

    def __init__(self, primary: RedisServer) -> None:
        super().__init__()
        self._watched = primary

    def _command(self, port: int) -> tuple[list[str], dict[str, Any]]:
        file = self.folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self.folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._watched.port} 2\n"
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
    """The whole of it, for the length of a block."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.primary = stack.enter_context(RedisServer("--repl-diskless-sync-delay", "0"))
            self.replica = stack.enter_context(
                RedisServer("--replicaof", f"127.0.0.1 {self.primary.port}")
            )
            wait_until(self._is_replicating, "the replica follows")
            self.sentinels = [stack.enter_context(Sentinel(self.primary)) for _ in range(3)]
            wait_until(self._is_watched, "the Sentinels know each other and the replica")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        nodes = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{nodes}/{SERVICE}/0"

    def is_primary(self, server: RedisServer) -> bool:
        """Whether most Sentinels say so."""
        votes = 0
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                _, port = client.sentinel_get_master_addr_by_name(SERVICE)
                votes += port == server.port
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
