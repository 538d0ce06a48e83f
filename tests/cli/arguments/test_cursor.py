"""`--cursor`: the command line begins where a client of a bridge stands."""

import asyncio
import uuid

import pytest

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.merge import Checkpoint
from lykke_cli.bootstrap import make_history
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.sealed_cursors import SealedCursors
from tests.builders import entity, insert
from tests.cli_process import run_lykke
from tests.servers import RedisServer

USER = uuid.UUID(int=43)
KEY = bytes(range(32))
TAIL = ("tail", "--no-follow", "-o", "ndjson")


async def stands(url: str) -> str:
    """The cursor of a client that has been sent all there is."""
    async with make_history(Settings(database_url=url)) as history:
        chunks = [chunk async for chunk in history.begin(Selection(user_ids={USER}))]
    return SealedCursors([KEY]).seal(USER, Checkpoint(chunks[-1].cursor, {}, None))


def record(url: str, count: int) -> set[str]:
    entities = [entity(USER) for _ in range(count)]
    asyncio.run(insert(url, entities))
    return {str(one.id) for one in entities}


@pytest.fixture
def env(sqlite_url: str, redis_server: RedisServer) -> dict[str, str]:
    return {
        "DATABASE_URL": sqlite_url,
        "REDIS_URL": redis_server.url,
        "LYKKE_CURSOR_KEY": f"{'ff' * 32},{KEY.hex()}",
    }


@pytest.fixture
def cursor(sqlite_url: str) -> str:
    record(sqlite_url, 3)
    return asyncio.run(stands(sqlite_url))


@pytest.mark.parametrize("command", [("backfill",), TAIL])
def test_what_came_since_is_printed(
    env: dict[str, str], cursor: str, command: tuple[str, ...]
) -> None:
    new = record(env["DATABASE_URL"], 4)
    for _ in range(2):  # nothing is moved by it
        result = run_lykke(*command, USER, "--cursor", cursor, env=env)
        assert result.status == ExitCode.DONE, result.stderr
        assert {row["id"] for row in result.rows} == new and len(result.rows) == 4


def test_it_leaves_the_stored_place_where_it_is(env: dict[str, str], cursor: str) -> None:
    first = run_lykke("backfill", USER, env=env)
    assert len(first.rows) == 3
    new = record(env["DATABASE_URL"], 2)
    assert len(run_lykke("backfill", USER, "--cursor", cursor, env=env).rows) == 2
    assert {row["id"] for row in run_lykke("backfill", USER, env=env).rows} == new
    nothing = asyncio.run(stands(env["DATABASE_URL"]))
    result = run_lykke("backfill", USER, "--cursor", nothing, env=env)
    assert "nothing new since the cursor" in result.stderr


@pytest.mark.parametrize("command", [("backfill",), TAIL])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[:-9], "truncated"),
        (lambda text: text[:-9] + "A" * 9, "damaged or forged"),
        (lambda text: "\x1b[31m", "no cursor"),
    ],
)
def test_one_that_is_not_to_be_trusted_is_bad_input(
    env: dict[str, str], cursor: str, command: tuple[str, ...], change: object, problem: str
) -> None:
    changed = change(cursor)  # type: ignore[operator]
    result = run_lykke(*command, USER, "--cursor", changed, env=env)
    assert (result.status, result.stdout) == (ExitCode.BAD_INPUT, b"")
    assert problem in result.stderr and len(result.stderr.splitlines()) == 1
    assert KEY.hex() not in result.stderr and "\x1b" not in result.stderr


def test_another_users_is_refused(env: dict[str, str], cursor: str) -> None:
    result = run_lykke("backfill", uuid.uuid4(), "--cursor", cursor, env=env)
    assert (result.status, "another user's" in result.stderr) == (ExitCode.BAD_INPUT, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("backfill", USER, "--since", "1h"), "leave --since out"),
        (("backfill", USER, "-n", "1"), "leave --last out"),
        (("backfill", USER, "--first", "1"), "leave --first out"),
        (("backfill", USER, "--to-file", "x.ndjson"), "leave --to-file out"),
        (("backfill", "--all"), "one user's"),
        (("backfill", USER, uuid.uuid4()), "one user's"),
        (("tail", USER, "--resume"), "leave --resume out"),
        (("tail", USER, "-n", "0"), "leave --last out"),
        (("tail", USER, "--live-only"), "--live-only uses no database"),
        (("tail", USER, "--from", "http://localhost:1"), "--cursor does not go with --from"),
    ],
)
def test_what_says_otherwise_where_to_begin_is_refused(
    env: dict[str, str], cursor: str, arguments: tuple[object, ...], problem: str
) -> None:
    if "--from" in arguments:
        env = {"LYKKE_CURSOR_KEY": KEY.hex(), "LYKKE_TOKEN": "t" * 32}
    result = run_lykke(*arguments, "--cursor", cursor, env=env)
    assert (result.status, result.stdout) == (ExitCode.USAGE, b"")
    assert problem in result.stderr


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "set LYKKE_CURSOR_KEY, or LYKKE_CURSOR_KEY_FILE"),
        ("00", "key 1 is not 64 hexadecimal digits"),
    ],
)
def test_without_the_key_it_says_which_one_is_needed(
    env: dict[str, str], cursor: str, key: str, problem: str
) -> None:
    result = run_lykke("backfill", USER, "--cursor", cursor, env=env | {"LYKKE_CURSOR_KEY": key})
    assert (result.status, problem in result.stderr) == (ExitCode.USAGE, True)
