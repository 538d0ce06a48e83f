"""What a person at a terminal sees of an outage."""

import re
import uuid

import pytest

from tests.builders import entity, insert, wire
from tests.cli_process import LykkeProcess
from tests.servers import RedisServer, run_apart

SGR = re.compile(r"\x1b\[[0-9;]*m")
CLEAR = "\r\x1b[2K"  # the status line
LOST, RULE, AGAIN = "trying again", "── outage ", "connected again after "


def test_an_outage_is_a_scene(own_redis: RedisServer, sqlite_url: str) -> None:
    user = uuid.uuid4()
    env = {"REDIS_URL": own_redis.url, "DATABASE_URL": sqlite_url, "TERM": "xterm-256color"}
    arguments = ("tail", user, "--since", "1h", "--utc")
    run_apart(lambda: insert(sqlite_url, [entity(user, "BEFORE")]))
    with LykkeProcess(*arguments, env=env, terminal=100) as tail:
        tail.wait_for("BEFORE")
        tail.wait_for("following")
        own_redis.kill()
        tail.wait_for(LOST)
        run_apart(lambda: insert(sqlite_url, [entity(user, "MISSED") for _ in range(3)]))
        own_redis.start()
        tail.wait_for(AGAIN)
        with own_redis.client() as client:
            client.publish(f"auditlog:{user}", wire(entity(user, "AFTER")))
        tail.wait_for("AFTER")
        screen = tail.stop().stdout.decode()
    lines = [line.rpartition(CLEAR)[2] for line in screen.split("\r\n")]
    [lost] = [n for n, line in enumerate(lines) if LOST in line]
    rule, *rows, again, after, _, _ = lines[lost + 1 :]
    clock = r"\d\d:\d\d:\d\d"
    assert re.fullmatch(f"── outage {clock} to {clock} UTC · 3 recovered ──", SGR.sub("", rule))
    assert [SGR.sub("", row).split()[1:3] for row in rows] == [["↺", "MISSED"]] * 3
    assert SGR.sub("", after).split()[1:3] == ["●", "AFTER"]
    assert any("○ BEFORE" in SGR.sub("", line) for line in lines[:lost])
    assert lines[lost].startswith("\x1b[31mlykke: ")
    assert again.startswith(f"\x1b[32mlykke: {AGAIN}") and "3 recovered" in again


@pytest.mark.parametrize("how", ["interrupted", pytest.param("timed out", marks=pytest.mark.long)])
def test_what_waits_for_the_end_of_an_outage_is_printed_before_the_run_ends(
    own_redis: RedisServer, sqlite_url: str, how: str
) -> None:
    user = uuid.uuid4()
    env = {"REDIS_URL": own_redis.url, "DATABASE_URL": sqlite_url}
    limit = ["--timeout", "12s"] if how == "timed out" else []
    with LykkeProcess("tail", user, *limit, env=env, terminal=100) as tail:
        tail.wait_for("following")
        own_redis.kill()
        tail.wait_for(LOST)
        run_apart(lambda: insert(sqlite_url, [entity(user, "MISSED")]))
        tail.wait_for("1 recovered")  # as the status line says
        screen = (tail.finish() if limit else tail.stop()).stdout.decode()
    assert re.search("── outage since .*↺.*MISSED.*once disconnected", screen, re.DOTALL)
