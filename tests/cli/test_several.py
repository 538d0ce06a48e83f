"""Several users and several channels at once, and users named by the start of their id."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from lykke_cli.infrastructure.files import recent
from tests.builders import entity, insert, wire
from tests.cli_process import LykkeProcess, call_lykke, command, run_lykke
from tests.servers import RedisServer

ANNA, BEA, CARL = (uuid.UUID(f"{n}{n}aabbcc-0000-4000-8000-{n * 12}") for n in "123")
DORA = uuid.UUID("00212345-0000-4000-8000-444444444444")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def store(url: str, *entities: Any) -> None:
    asyncio.run(insert(url, entities))


def publish(server: RedisServer, channel: str, *payloads: bytes) -> int:
    with server.client() as client:
        return sum(int(client.publish(channel, payload)) for payload in payloads)


def test_several_users_come_in_one_sequence(
    own_redis: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    env = database_env | {"REDIS_URL": own_redis.url}
    past = [
        entity(user, occurred_at=NOON + timedelta(minutes=n))
        for n, user in enumerate((BEA, CARL, ANNA, BEA))
    ]
    store(postgres_url, *past)
    options = ("--since", "2026-05-01", "--reconcile", "200ms", "-o", "ndjson")
    with LykkeProcess("tail", ANNA, BEA, *options, env=env) as tail:
        assert [tail.row()["id"] for _ in range(3)] == [str(e.id) for e in past if e is not past[1]]
        with own_redis.client() as client:
            [_] = client.client_list(_type="pubsub")
        live, lost = entity(ANNA), entity(BEA)
        store(postgres_url, live, lost)
        for user, each in ((ANNA, live), (CARL, past[1]), (BEA, past[0])):
            publish(own_redis, f"auditlog:{user}", wire(each))
        assert {tail.row()["id"] for _ in range(2)} == {str(live.id), str(lost.id)}
        tail.stop()
    missed = entity(BEA)
    store(postgres_url, missed)
    # The place belongs to both, in whichever order.
    resumed = run_lykke("tail", BEA, ANNA, "--resume", "--count", 1, "-o", "ndjson", env=env)
    assert [row["id"] for row in resumed.rows] == [str(missed.id)]
    alone = run_lykke("tail", BEA, "--resume", "--timeout", "100ms", "-o", "ndjson", env=env)
    assert "no place is stored yet" in alone.stderr


def test_each_of_several_channels_is_answered_on_its_own(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user, past = uuid.uuid4(), datetime.now(UTC) - timedelta(minutes=1)
    stored, live, copied = entity(user, occurred_at=past), entity(user), entity(user)
    store(postgres_url, stored)
    channels = ("--channel", "auditlog", "--channel", "domain-events")
    names = [f"auditlog:{user}", f"domain-events:{user}"]
    with redis_server.client() as client, client.pubsub() as listener:
        listener.subscribe(*names)
        options = ("-n", 1, "--ack", "-o", "ndjson")
        with LykkeProcess("tail", user, *channels, *options, env=database_env) as tail:
            tail.wait_for("following")
            assert tail.row()["id"] == str(stored.id)
            publish(redis_server, names[1], b'{"type":"hello"}', wire(copied))
            publish(redis_server, names[0], wire(live), wire(stored))
            assert tail.row() == {"type": "hello"}
            assert [tail.row()["id"] for _ in range(2)] == [str(copied.id), str(live.id)]
            answers: set[tuple[str, str]] = set()
            while len(answers) < 3:
                message = listener.get_message(ignore_subscribe_messages=True, timeout=10)
                if message is not None:
                    fields = orjson.loads(message["data"])
                    if fields.get("type") == "acknowledgment":
                        answers.add((message["channel"].decode(), fields["event_id"]))
            tail.stop()
    assert answers == {
        (names[0], str(stored.id)),
        (names[1], str(copied.id)),
        (names[0], str(live.id)),
    }


def test_what_looks_like_an_entry_on_another_channel_is_none_that_was_printed(
    redis_server: RedisServer, database_env: dict[str, str], postgres_url: str
) -> None:
    user = uuid.uuid4()
    each = entity(user)
    channels = ("--channel", "auditlog", "--channel", "domain-events", "-o", "ndjson")
    with LykkeProcess("tail", user, *channels, env=database_env) as tail:
        tail.wait_for("following")
        publish(redis_server, f"domain-events:{user}", wire(each))
        assert tail.row()["id"] == str(each.id)
        tail.stop()
    store(postgres_url, each)
    resumed = run_lykke("tail", user, *channels, "--resume", "--count", 1, env=database_env)
    assert [row["id"] for row in resumed.rows] == [str(each.id)]


def test_filters_look_into_any_object_of_the_other_channels(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    options = ("--channel", "notification", "--channel", "auditlog", "--activity-type", "hello")
    with LykkeProcess("tail", user, *options, "-o", "ndjson", "--count", 2, env=env) as tail:
        tail.wait_for("following")
        publish(redis_server, f"auditlog:{user}", b'{"type":"hello","n":1}', wire(entity(user)))
        publish(redis_server, f"notification:{user}", b'{"type":"bye"}', b'{"type":"hello","n":2}')
        publish(redis_server, f"auditlog:{user}", wire(entity(user, "hello")))
        result = tail.finish()
    assert result.rows[0] == {"type": "hello", "n": 2}
    assert result.rows[1]["activity_type"] == "hello"


def test_the_table_has_a_column_for_the_user_where_there_are_several(sqlite_url: str) -> None:
    store(sqlite_url, entity(ANNA), entity(BEA))
    env = {"DATABASE_URL": sqlite_url}
    for users, shown in ((("--all",), True), ((ANNA, BEA), True), ((ANNA,), False)):
        table = call_lykke("backfill", *users, "-n", 9, "-o", "table", env=env)
        assert (b"USER" in table.stdout.splitlines()[0]) == shown


def test_everybodys_history_statistics_and_expectations(
    owner_env: dict[str, str], postgres_url: str
) -> None:
    entries = [entity(user, "A", NOON) for user in (ANNA, BEA, CARL)]
    store(postgres_url, *entries)
    env = owner_env
    everybody = call_lykke("backfill", "--all", "--since", "2026-01-01", env=env)
    assert {row["id"] for row in everybody.rows} == {str(e.id) for e in entries}
    some = call_lykke("backfill", ANNA, CARL, "--since", "2026-01-01", env=env)
    assert {row["user_id"] for row in some.rows} == {str(ANNA), str(CARL)}
    [report] = call_lykke("stats", "--all", env=env).rows
    assert (report["user_id"], report["entries"]) == (None, 3)
    drawn = call_lykke("stats", "--all", "-o", "table", env=env)
    assert drawn.stdout.startswith(b"Every user")
    record = command("record", BEA, "A")
    expected = run_lykke("expect", "--all", "--timeout", "20s", "--", *record, env=env)
    assert expected.status == 0
    assert [row["user_id"] for row in expected.rows] == [str(BEA)]


@pytest.mark.parametrize(
    "arguments",
    [
        *[[command] for command in ("tail", "backfill", "stats", "expect")],
        *[[command, ANNA, "--all"] for command in ("tail", "backfill", "stats")],
    ],
)
def test_either_users_or_all_of_them(arguments: list[object]) -> None:
    result = call_lykke(*arguments)
    assert (result.status, result.stdout) == (2, b"")
    assert result.stderr == "lykke: Give either a USER_ID, or --all for every user.\n"


@pytest.mark.parametrize("start", ["11aabb", "11AABBCC-0000-4", "11aabbcc00004000800011111111111"])
def test_the_start_of_an_id_stands_for_it(sqlite_url: str, start: str) -> None:
    store(sqlite_url, entity(ANNA), entity(BEA))
    env = {"DATABASE_URL": sqlite_url}
    result = call_lykke("backfill", start, str(BEA)[:7], "-n", 9, "-o", "ndjson", env=env)
    assert {row["user_id"] for row in result.rows} == {str(ANNA), str(BEA)}


def test_the_start_of_several_ids_lists_them(sqlite_url: str) -> None:
    alike = sorted(str(uuid.UUID(int=(0xABCDEF << 104) + n)) for n in range(7))
    store(sqlite_url, *(entity(uuid.UUID(user)) for user in alike))
    result = call_lykke("stats", "abcdef", env={"DATABASE_URL": sqlite_url})
    assert (result.status, result.stdout) == (2, b"")
    named = ", ".join(alike[:5])
    assert result.stderr == f"lykke: Several users' ids begin with abcdef: {named} and more.\n"


def test_without_a_database_the_start_is_of_a_user_met_lately(env: dict[str, str]) -> None:
    recent.remember([ANNA, BEA], "tail")
    result = call_lykke("publish", "11aabb", env=env)
    assert result.stdout.startswith(f"auditlog:{ANNA}: ".encode())
    unknown = call_lykke("publish", "99aabb", env=env)
    assert unknown.status == 2
    assert "No user's id begins with 99aabb" in unknown.stderr


@pytest.mark.parametrize("text", ["11aab", "11aabbc-x", "xyzxyz", "1" * 33])
def test_what_is_no_start_of_an_id_is_told(text: str) -> None:
    result = call_lykke("tail", text)
    assert result.status == 2
    assert f"{text!r} is no user" in result.stderr
    assert "at least its first six characters" in result.stderr


def test_a_file_holds_the_entries_of_one_channel(tmp_path: Any, env: dict[str, str]) -> None:
    options = ("--channel", "auditlog", "--channel", "notification", "--to-file", tmp_path / "f")
    result = call_lykke("tail", ANNA, *options, env=env)
    assert result.status == 2
    assert "one --channel" in result.stderr


def test_at_a_terminal_a_bare_tail_offers_users(env: dict[str, str], sqlite_url: str) -> None:
    now = datetime.now(UTC)
    store(sqlite_url, *(entity(BEA, "A", now) for _ in range(3)), entity(CARL, "A", now))
    recent.remember([ANNA], "tail")
    env = env | {"DATABASE_URL": sqlite_url}
    for answer, user in (("2", BEA), ("33aabb", CARL)):
        with LykkeProcess("tail", env=env, terminal=80) as tail:
            tail.wait_for("which user?")
            tail.type(f"{answer}\n")
            tail.wait_for(f"following auditlog:{user}")
            tail.stop()
        assert all(len(line) < 80 for line in tail.stdout.decode().splitlines()[:3])
        screen = [line.split() for line in tail.stdout.decode().splitlines()]
        assert [(line[0], line[1]) for line in screen[:3]] == [
            ("1", str(ANNA if user == BEA else BEA)),
            ("2", str(BEA if user == BEA else ANNA)),
            ("3", str(CARL)),
        ]
        assert user == CARL or "3 in 24 h" in tail.stdout.decode()


def test_the_start_of_an_id_is_no_number_of_the_list(env: dict[str, str], sqlite_url: str) -> None:
    store(sqlite_url, entity(DORA, "A", NOON))
    recent.remember([ANNA, BEA], "tail")
    with LykkeProcess("tail", env=env | {"DATABASE_URL": sqlite_url}, terminal=80) as tail:
        tail.wait_for("which user?")
        tail.type("00212345\n")
        tail.wait_for(f"following auditlog:{DORA}")
        tail.stop()


def test_who_chooses_nobody_follows_nobody(env: dict[str, str]) -> None:
    recent.remember([ANNA], "tail")
    with LykkeProcess("tail", env=env, terminal=80) as tail:
        tail.wait_for("which user?")
        tail.type("\n")
        assert tail.finish().status == 2
    assert "No user was chosen" in tail.stdout.decode()
