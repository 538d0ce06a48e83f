"""A person pauses a tail, and goes away for longer than anything can wait."""

import uuid

from tests.cli_process import LykkeProcess
from tests.servers import RedisServer, wait_until


def pause_until_cut_off(tail: LykkeProcess, server: RedisServer, user: uuid.UUID) -> None:
    """Leave it paused until the server gives up the connection that takes nothing any more."""
    tail.wait_for("following")
    tail.type(" ")
    tail.wait_for("■ paused")
    message = b'{"filling":"%s"}' % (b"x" * 1_000_000)
    with server.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 64kb 64kb 1")

        def is_cut_off() -> bool:
            return not client.publish(f"auditlog:{user}", message)

        wait_until(is_cut_off, "the server gives up")
    tail.wait_for("+ new")


def test_without_a_database_the_gap_is_announced_when_it_goes_on(own_redis: RedisServer) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, env={"REDIS_URL": own_redis.url}, terminal=100) as tail:
        pause_until_cut_off(tail, own_redis, user)
        assert b"GAP" not in tail.stdout
        tail.type(" ")
        tail.wait_for("connected again; GAP from ")
        tail.type("q")
        assert tail.finish().status == 0
