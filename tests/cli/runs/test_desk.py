"""Keys while a tail runs at a terminal, and the terminal after it."""

import os
import re
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.builders import entity, insert, wire
from tests.cli_process import LykkeProcess, environment
from tests.programs import program
from tests.servers import RedisServer, run_apart, wait_until
from tests.shell import Shell

PAUSED, FOLLOWING = "■ paused", "following auditlog:"


def publish(server: RedisServer, user: uuid.UUID, *activities: str) -> None:
    with server.client() as client:
        for activity in activities:
            client.publish(f"auditlog:{user}", wire(entity(user, activity, meta={"n": 1})))


@pytest.fixture
def env(redis_url: str, sqlite_url: str) -> dict[str, str]:
    return {"REDIS_URL": redis_url, "DATABASE_URL": sqlite_url}


@contextmanager
def tailing(user: uuid.UUID, *arguments: object, env: dict[str, str]) -> Iterator[LykkeProcess]:
    with LykkeProcess("tail", user, *arguments, env=env, terminal=100) as tail:
        tail.wait_for(FOLLOWING)
        yield tail


def test_a_pause_holds_back_what_comes_and_loses_nothing(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    with tailing(user, env=env) as tail:
        tail.type(" ")
        tail.wait_for(f"{PAUSED} · 0 new")
        publish(redis_server, user, "FIRST", "SECOND")
        tail.wait_for(f"{PAUSED} · 2 new")
        assert b"FIRST" not in tail.stdout
        tail.type(" ")
        tail.wait_for("SECOND")
        tail.type("q")
        result = tail.finish()
    assert result.status == 0
    assert re.search(rb"FIRST.*SECOND.*2 printed", result.stdout, re.DOTALL)


@pytest.mark.parametrize("end", ["q", "Ctrl-C"])
def test_what_came_in_a_pause_is_kept_for_the_next_run(
    redis_server: RedisServer, env: dict[str, str], end: str
) -> None:
    user = uuid.uuid4()
    with LykkeProcess("tail", user, "--resume", env=env, terminal=100) as tail:
        tail.wait_for(FOLLOWING)
        tail.type(" ")
        tail.wait_for(PAUSED)
        kept = entity(user, "KEPT")
        run_apart(lambda: insert(env["DATABASE_URL"], [kept]))
        with redis_server.client() as client:
            client.publish(f"auditlog:{user}", wire(kept))
        tail.wait_for("1 new")
        tail.type("q") if end == "q" else tail.send()
        assert b"in the pause came 1 more, not printed" in tail.finish().stdout
    with LykkeProcess("tail", user, "--resume", "--count", 1, env=env) as tail:
        assert tail.row()["id"] == str(kept.id)


def test_an_outage_in_a_pause_is_a_scene(own_redis: RedisServer, sqlite_url: str) -> None:
    user = uuid.uuid4()
    with tailing(user, env={"REDIS_URL": own_redis.url, "DATABASE_URL": sqlite_url}) as tail:
        tail.type(" ")
        tail.wait_for(PAUSED)
        own_redis.kill()
        tail.wait_for("trying again")
        run_apart(lambda: insert(sqlite_url, [entity(user, "MISSED")]))
        own_redis.start()
        tail.wait_for("1 new")
        assert b"MISSED" not in tail.stdout
        tail.type(" ")
        tail.wait_for("connected again")
        tail.type("q")
        screen = tail.finish().stdout
    assert re.search(rb"trying again.*MISSED.*connected again", screen, re.DOTALL)


def test_the_newest_entries_are_shown_in_full_one_before_the_other(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    with tailing(user, env=env | {"NO_COLOR": "1"}) as tail:
        tail.type("e")
        tail.wait_for("no entry has been printed yet")
        publish(redis_server, user, "FIRST", "SECOND")
        tail.wait_for("SECOND")
        tail.type("e")
        tail.wait_for("activity_type  SECOND")
        assert b"activity_type  FIRST" not in tail.stdout
        tail.type("e")
        tail.wait_for("activity_type  FIRST")
        tail.type("e")
        tail.wait_for("no older entry is kept here")
        publish(redis_server, user, "THIRD")
        tail.wait_for("THIRD")
        tail.type("e")
        tail.wait_for("activity_type  THIRD")
        tail.type("q")
        tail.finish()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (rb'{"type":"note\u001b[2J"}', r'"type": "note\u001b[2J"'),
        (b"\x1b]0;title\x07", r"\u001b]0;title"),
        (b'{"type":"%s"}' % (b"x" * (2 << 20)), "2.0 MiB are too much"),
    ],
    ids=["object", "junk", "large"],
)
def test_whatever_came_is_shown_in_full_and_harms_nothing(
    redis_server: RedisServer, env: dict[str, str], message: bytes, shown: str
) -> None:
    user = uuid.uuid4()
    with tailing(user, env=env | {"NO_COLOR": "1"}) as tail:
        with redis_server.client() as client:
            client.publish(f"auditlog:{user}", message)
        tail.wait_for("1 entry")
        tail.type("e")
        tail.wait_for(shown)
        tail.type("q")
        assert not re.search(rb"\x1b(?!\[2K)|\x07", tail.finish().stdout)


def test_a_long_entry_is_shown_whole_and_what_comes_next_stands_under_it(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    meta = {f"key_{number}": number for number in range(40_000)}
    with tailing(user, env=env | {"NO_COLOR": "1"}) as tail:
        with redis_server.client() as client:
            client.publish(f"auditlog:{user}", wire(entity(user, meta=meta)))
        tail.wait_for("1 entry")
        tail.type("e")
        publish(redis_server, user, "NEXT")
        tail.wait_for("2 entries")
        tail.type("q")
        screen = tail.finish().stdout
    *lines, last = re.findall(rb' "(key_\d+": \d+)', screen)
    assert len(lines) == 39_999
    assert re.search(re.escape(last) + rb".*NEXT.*2 printed", screen, re.DOTALL)


def test_what_is_pasted_is_drawn_once_not_with_each_letter(env: dict[str, str]) -> None:
    with tailing(uuid.uuid4(), env=env) as tail:
        tail.type("/" + "x" * 1_000)
        tail.wait_for("x" * 90)
        tail.type("\rq")
        assert tail.finish().stdout.count(b"\x1b[2K/") < 50


def test_a_word_is_marked_from_then_on(redis_server: RedisServer, env: dict[str, str]) -> None:
    user = uuid.uuid4()
    with tailing(user, env=env) as tail:
        publish(redis_server, user, "NEEDLE_1")
        tail.wait_for("NEEDLE_1")
        tail.type("/need")
        tail.wait_for("\x1b[2K/need")
        tail.type("le\r")
        tail.wait_for(" · /needle")
        publish(redis_server, user, "NEEDLE_2")
        tail.wait_for("_2")
        tail.type("/\r?")
        tail.wait_for("the newest entry in full")
        publish(redis_server, user, "NEEDLE_3")
        tail.wait_for("NEEDLE_3")
        tail.type("q")
        assert tail.finish().stdout.count(b"\x1b[7mNEEDLE\x1b[0m") == 1


def test_other_outputs_say_that_they_mark_nothing(env: dict[str, str]) -> None:
    with tailing(uuid.uuid4(), "-o", "ndjson", env=env) as tail:
        tail.type("/x\r")
        tail.wait_for("a word can be marked in the table only")
        tail.type("q")
        tail.finish()


def test_enter_draws_a_line_and_a_question_mark_tells_the_keys(env: dict[str, str]) -> None:
    with tailing(uuid.uuid4(), "--utc", env=env) as tail:
        tail.type("\r?")
        tail.wait_for("the newest entry in full")
        tail.type("q")
        screen = tail.finish().stdout.decode()
    assert re.search(r"── \d\d:\d\d:\d\d UTC ─{80}", screen)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGQUIT, -signal.SIGQUIT),
    ],
)
def test_the_terminal_is_as_it_was_after_a_signal(
    env: dict[str, str], number: int, status: int
) -> None:
    with LykkeProcess("tail", uuid.uuid4(), env=env, terminal=100) as tail:
        tail.wait_for(FOLLOWING)
        assert tail.modes != tail.modes_before
        assert tail.stop(number).status == status
        assert tail.modes == tail.modes_before


@pytest.mark.parametrize("end", ["q", "count", "time", "error"])
def test_the_terminal_is_as_it_was_after_any_other_end(
    own_redis: RedisServer, sqlite_url: str, end: str
) -> None:
    user = uuid.uuid4()
    limits = {"count": ("--count", "1"), "time": ("--timeout", "2s")}
    env = {"REDIS_URL": own_redis.url, "DATABASE_URL": sqlite_url}
    if end == "error":
        own_redis.kill()
    with LykkeProcess("tail", user, *limits.get(end, ()), env=env, terminal=100) as tail:
        if end in ("q", "count"):  # the others may have come by now
            tail.wait_for(FOLLOWING)
            assert tail.modes != tail.modes_before
        if end == "q":
            tail.type("q")
        if end == "count":
            publish(own_redis, user, "X")
        assert tail.finish().status == (3 if end == "error" else 0)
        assert tail.modes == tail.modes_before


@pytest.mark.parametrize("how", ["-q", "--to-file"])
def test_where_nothing_is_shown_no_key_is_read(
    env: dict[str, str], how: str, tmp_path: os.PathLike[str]
) -> None:
    more = [how] if how == "-q" else [how, os.path.join(tmp_path, "file")]
    with LykkeProcess(
        "tail", uuid.uuid4(), *more, "--timeout", "1s", env=env, terminal=100
    ) as tail:
        tail.type("q")
        assert tail.finish().status == 0
        assert tail.modes == tail.modes_before


@pytest.fixture
def shell(env: dict[str, str]) -> Iterator[Shell]:
    """With job control, which leaves the modes of its terminal as they are."""
    with Shell(["sh", "-i"], {**environment(env), "PS1": "$ ", "ENV": ""}) as shell:
        shell.wait_for("$ ")
        yield shell


PLAIN = f"{sys.executable} -m lykke_cli"
ON_UVLOOP = " ".join(map(str, program("lykke_on_uvloop")))


@pytest.mark.parametrize("lykke", [PLAIN, ON_UVLOOP], ids=["asyncio", "uvloop"])
def test_it_is_stopped_and_goes_on_as_a_shell_says(
    redis_server: RedisServer, shell: Shell, lykke: str
) -> None:
    user = uuid.uuid4()
    shell.type(f"{lykke} tail {user}\n")
    shell.wait_for(FOLLOWING)
    assert not shell.echoes()
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.wait_for("$ ")
    assert shell.echoes()
    publish(redis_server, user, "MEANWHILE")
    shell.type("fg\n")
    shell.wait_for("MEANWHILE")
    shell.type("\r")
    shell.wait_for("──────")
    assert not shell.echoes()
    shell.type("q")
    shell.wait_for("1 printed")
    shell.wait_for("$ ")
    assert shell.echoes()


def test_in_the_background_it_leaves_the_terminal_to_the_shell(
    redis_server: RedisServer, shell: Shell
) -> None:
    user = uuid.uuid4()
    shell.type(f"{PLAIN} tail {user} &\n")
    shell.wait_for("following")
    shell.type("echo q$((1 + 1))q\n")
    shell.wait_for("q2q")
    assert shell.echoes()
    publish(redis_server, user, "SHOWN")
    shell.wait_for("SHOWN")
    shell.type("jobs\n")
    shell.wait_for("Running")
    assert b"\x1b[2K" not in shell.shown  # no status line over what the shell shows
    shell.type("fg\n")
    wait_until(lambda: not shell.echoes(), "it hears keys")
    shell.type("q")
    shell.wait_for("1 printed")
