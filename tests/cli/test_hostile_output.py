"""Strangers' text through the commands, on a terminal: what it says is seen, not done."""

import asyncio
import json
import re
import socketserver
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.builders import add_users, entity, insert, wire
from tests.cli_process import DEADLINE, LykkeProcess, Result, call_lykke, run_lykke
from tests.hostile import CORPUS, OBEYED
from tests.servers import RedisServer

USER = uuid.UUID(int=1)
TEXT = "".join(CORPUS)
ARGUMENT = TEXT.replace("\0", "")
LINE = ARGUMENT.replace("\r", "").replace("\n", "")
OWN = re.compile("\r\x1b\\[2K|\r\n|\n")  # the status line's, and the terminal's line ends
PLAIN = {"NO_COLOR": "1", "TERM": "xterm"}  # so that every other sequence is a stranger's


def assert_harmless(result: Result, *shown: str) -> None:
    text = OWN.sub("", result.stdout.decode() + result.stderr)
    assert OBEYED.isdisjoint(text), sorted(OBEYED & set(text))
    assert "Traceback" not in text and "bug" not in text
    for part in shown:
        assert part in text


def metas() -> list[dict[str, object]]:
    return [{text: text, "list": [text]} for text in CORPUS]


@pytest.fixture
def sqlite_env(env: dict[str, str], sqlite_url: str) -> dict[str, str]:
    """With a database whose every text is hostile."""
    now = datetime.now(UTC)
    rows = [
        entity(USER, text or "X", now, meta, entity_id=USER, entity_type=text)
        for text, meta in zip(CORPUS, metas(), strict=True)
    ]
    rows += [entity(uuid.UUID(int=n), "A", now) for n in range(2, 30)]
    asyncio.run(insert(sqlite_url, rows))
    add_users(sqlite_url, *((uuid.UUID(int=n), TEXT[8 * n :]) for n in range(1, 30)))
    return env | PLAIN | {"DATABASE_URL": sqlite_url}


def on_terminal(*arguments: object, env: dict[str, str], width: int = 120) -> Result:
    with LykkeProcess(*arguments, env=env | PLAIN, terminal=width) as process:
        return process.finish()


@pytest.mark.parametrize("output", ["table", "raw"])
def test_tail(redis_server: RedisServer, env: dict[str, str], output: str) -> None:
    user, count = uuid.uuid4(), 3 * len(CORPUS)
    arguments = ("tail", user, "-o", output, "--count", count, "--live-only")
    with (
        LykkeProcess(*arguments, env=env | PLAIN, terminal=120) as tail,
        redis_server.client() as c,
    ):
        tail.wait_for("following")
        with c.pipeline() as pipe:
            for text, meta in zip(CORPUS, metas(), strict=True):
                pipe.publish(f"auditlog:{user}", wire(entity(user, text or "X", meta=meta)))
                pipe.publish(f"auditlog:{user}", json.dumps({"type": text, text: text}))
                pipe.publish(f"auditlog:{user}", b"\xff" + text.encode())
            pipe.execute()
        result = tail.finish()
    assert result.status == ExitCode.DONE
    assert_harmless(result, f"{count} printed")


@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_backfill(sqlite_env: dict[str, str], output: str) -> None:
    result = on_terminal("backfill", USER, "--since", "1h", "-o", output, env=sqlite_env)
    title = r"\u001b]0;title\u0007" if output == "json" else r"\x1b]0;title\x07"
    assert_harmless(result, title, f"{len(CORPUS)} printed")


def test_backfill_with_a_template(sqlite_env: dict[str, str]) -> None:
    template = "{activity_type} {meta} {entity_type:>30}"
    result = on_terminal("backfill", USER, "--since", "1h", "--template", template, env=sqlite_env)
    assert_harmless(result, r"\x1b]0;title\x07", f"{len(CORPUS)} printed")


@pytest.mark.parametrize("command", [("users",), ("users", "-o", "csv"), ("stats", USER)])
def test_users_and_stats(sqlite_env: dict[str, str], command: tuple[object, ...]) -> None:
    assert_harmless(on_terminal(*command, env=sqlite_env, width=200), "\\x")


def test_expect_explains_what_did_not_match(redis_server: RedisServer, env: dict[str, str]) -> None:
    user = uuid.uuid4()
    arguments = ("expect", user, "--live-only", "--activity-type", ARGUMENT, "--timeout", "3s")
    with LykkeProcess(*arguments, env=env | PLAIN, terminal=200) as expect:
        expect.wait_for("subscribed")
        with redis_server.client() as client:
            client.publish(f"auditlog:{user}", wire(entity(user, TEXT, meta={"a": TEXT})))
        result = expect.finish()
    assert result.status == ExitCode.EXPECTATION
    assert_harmless(result, r"activity_type is \x00")


def test_publish_tells_which_file_it_has_not_read(
    redis_server: RedisServer, env: dict[str, str], tmp_path: Path
) -> None:
    user, file = uuid.uuid4(), tmp_path / "a\x1b[2J"
    file.write_text("{}\n" * 2)
    arguments = ("publish", user, "--file", file, "--rate", "0.01")
    with redis_server.client() as client, client.pubsub() as pubsub:
        pubsub.subscribe(f"auditlog:{user}")
        with LykkeProcess(*arguments, env=env | PLAIN, terminal=200) as publish:
            for _ in range(2):  # the confirmation and the first message
                assert pubsub.get_message(timeout=DEADLINE) is not None
            result = publish.stop()
    assert result.status == ExitCode.INTERRUPTED
    assert_harmless(result, r"a\x1b[2J was not read to its end: ")


@pytest.mark.parametrize("output", ["table", "ndjson"])
def test_channels(redis_server: RedisServer, env: dict[str, str], output: str) -> None:
    kind = f"t{uuid.uuid4().hex}"
    names = [f"{kind}:{text}" for text in CORPUS] + [f"{kind}:".encode() + b"\xff\x9b31m"]
    with redis_server.client() as client, client.pubsub() as pubsub:
        pubsub.subscribe(*names)
        for _ in names:
            assert pubsub.get_message(timeout=DEADLINE) is not None
        result = on_terminal("channels", "--channel", kind, "-o", output, env=env, width=200)
    assert_harmless(result, "\\x1b]0;title" if output == "table" else "\\u001b]0;title")


class _Hostile(socketserver.BaseRequestHandler):
    """A Redis whose every answer is made to harm."""

    def handle(self) -> None:
        info = f"redis_version:{LINE}\r\nrole:{LINE}\r\nos:{LINE}\r\n".encode()
        with self.request.makefile("rb") as requests:
            while header := requests.readline():
                words = []
                for _ in range(int(header[1:])):
                    size = int(requests.readline()[1:])
                    words.append(requests.read(size + 2)[:-2].upper())
                if words[0] == b"INFO":
                    self.request.sendall(b"$%d\r\n%s\r\n" % (len(info), info))
                else:
                    self.request.sendall(f"-ERR {LINE}\r\n".encode())


@pytest.fixture
def hostile_redis() -> Iterator[str]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), _Hostile) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "command", [("tail", USER), ("publish", USER), ("channels",), ("expect", USER), ("doctor",)]
)
def test_what_a_redis_server_answers(hostile_redis: str, command: tuple[object, ...]) -> None:
    result = on_terminal(*command, env={"REDIS_URL": hostile_redis}, width=200)
    assert result.status in (ExitCode.UNAVAILABLE, ExitCode.EXPECTATION)
    assert_harmless(result, "lykke: ")


FAILING_VIEW = """
    CREATE FUNCTION fail() RETURNS uuid LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION USING MESSAGE = (SELECT text FROM texts); END$$;
    ALTER TABLE audit_logs RENAME TO rest;
    CREATE VIEW audit_logs AS
        SELECT fail() AS id, fail() AS user_id, activity_type, occurred_at, entity_id, entity_type,
            meta
        FROM (SELECT * FROM rest UNION ALL
            SELECT NULL, NULL, 'A', now(), NULL, NULL, NULL) AS all_rows
"""


@pytest.mark.parametrize(
    "command", [("backfill", USER, "--limit", 9), ("stats", USER), ("users",), ("doctor",)]
)
def test_what_postgresql_answers(
    postgres_url: str, env: dict[str, str], command: tuple[object, ...]
) -> None:
    async def prepare() -> None:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("CREATE TABLE texts AS SELECT $1::text AS text", LINE)
        await connection.execute(FAILING_VIEW)
        await connection.close()

    asyncio.run(prepare())
    result = on_terminal(*command, env=env | {"DATABASE_URL": postgres_url}, width=200)
    assert_harmless(result, "lykke: " if command == ("doctor",) else r"\x01\x02")


REFUSED = """
    HOSTILE
    profile HOSTILE
    profile add HOSTILE
    profile use HOSTILE
    profile show HOSTILE
    tail HOSTILE
    tail USER HOSTILE
    tail USER --HOSTILE
    tail USER --template {HOSTILE
    tail USER --to-file x --rotate HOSTILE
    tail USER --since 1h --channel HOSTILE
    backfill USER --rate HOSTILE
    backfill USER --database-url sqlite:////nowhere/HOSTILE
    backfill USER --database-url postgresql://HOSTILE@127.0.0.1:1/HOSTILE
    publish USER --redis-url redis://127.0.0.1:1/HOSTILE
    publish USER --data HOSTILE
    publish USER --file HOSTILE
    record USER A --meta HOSTILE
    expect USER --timeout HOSTILE
    stats USER --output HOSTILE
    users --limit HOSTILE
    channels --interval HOSTILE
    doctor --timeout HOSTILE
"""
OPTIONS = """
    --since --until --last --count --timeout --reconcile --query --grep --entity-id -o --columns
    --color --profile --redis-url --database-url --max-message-size
"""


@pytest.mark.parametrize(
    "command",
    [
        *map(str.strip, REFUSED.strip().splitlines()),
        *(f"tail USER {option} HOSTILE" for option in OPTIONS.split()),
    ],
)
def test_an_argument_that_is_refused(command: str) -> None:
    words = [
        word.replace("USER", str(USER)).replace("HOSTILE", ARGUMENT) for word in command.split()
    ]
    result = call_lykke(*words)
    assert result.status not in (ExitCode.DONE, ExitCode.BUG), result
    assert_harmless(result)


def test_a_file_with_a_hostile_name(sqlite_env: dict[str, str], tmp_path: Path) -> None:
    name = tmp_path / "".join(c for c in dict.fromkeys(LINE) if c in OBEYED)[:80]
    folder = name / "folder"
    folder.mkdir(parents=True)
    for arguments in (["--to-file", folder], ["--to-file", name / "none" / "file"]):
        result = run_lykke("backfill", USER, *arguments, env=sqlite_env)
        assert result.status != ExitCode.DONE
        assert_harmless(result, r"\x01\x02")
    assert_harmless(run_lykke("backfill", USER, "--to-file", name / "f", env=sqlite_env), "printed")


def test_a_profile_whose_texts_are_hostile(tmp_path: Path) -> None:
    config = tmp_path / "config" / "lykke" / "config.toml"
    config.parent.mkdir(parents=True)
    text = json.dumps(LINE, ensure_ascii=False).replace("\x7f", r"\u007f")
    config.write_text(f"current = {text}\n[profiles.{text}]\nredis_url = {text}\noutput = {text}\n")
    for arguments in ("list",), ("show",), ("list", "--json"), ("show", "--json"):
        assert_harmless(call_lykke("profile", *arguments))
    config.write_text(f'current = "p"\n[profiles.p]\nredis_url = {text}\n{text} = {text}\n')
    for arguments in ("list",), ("show",), ("list", "--json"), ("show", "--json"):
        assert_harmless(call_lykke("profile", *arguments))
