"""Start-up pays only for what the command needs: asserted on what was imported, not on time."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import lykke_cli
from tests.cli_process import environment
from tests.programs import program
from tests.servers import RedisServer

_HEAVY = (
    *("redis", "sqlalchemy", "asyncpg", "aiosqlite", "rich.live", "rich.progress"),
    *("starlette", "uvicorn", "prometheus_client", "cryptography", "lykke_cli.web"),
)


def imported(*arguments: object, **env: str) -> set[str]:
    """The modules which a run of lykke has imported."""
    done = subprocess.run(
        [*program("lykke_that_tells_its_modules"), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(env),
        check=False,
        timeout=20,
    )
    marked = [line for line in done.stderr.splitlines() if line.startswith("MODULES")]
    assert marked, done.stderr
    return set(marked[0].split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["tail", "--help"], ["publish", "--help"], ["serve", "--help"]],
)
def test_help_and_version_import_no_driver(arguments: list[str]) -> None:
    assert not imported(*arguments) & set(_HEAVY)


def test_version_imports_nothing_but_itself() -> None:
    ours = {name for name in imported("--version") if name.startswith("lykke_cli")}
    assert ours == {"lykke_cli", "lykke_cli.__main__", "lykke_cli._version"}


@pytest.mark.parametrize("module", ["asyncio", "typer", "msgspec"])
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ("KeyboardInterrupt", 130, ""),
        ("ImportError('no\\nsuch thing')", 1, "no such thing"),
    ],
)
def test_what_fails_while_it_is_imported_is_told_of_in_a_line(
    module: str, error: str, status: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text(f"raise {error}")
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"
    command = [sys.executable, "-m", "lykke_cli", "tail", str(uuid.uuid4())]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=20)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert done.stderr.startswith("lykke: " if said else "")
    assert len(done.stderr.splitlines()) == bool(said)


@pytest.mark.parametrize("module", ["typer", "msgspec"])
def test_ctrl_c_ends_it_at_once_also_where_an_import_swallows_it(
    module: str, tmp_path: Path
) -> None:
    """As those of the import system itself do, and of some compiled modules."""
    swallowing = (
        "import signal",
        "try:",
        "    signal.raise_signal(signal.SIGINT)",
        "except KeyboardInterrupt:",
        "    pass",
    )
    (tmp_path / f"{module}.py").write_text("\n".join(swallowing))
    # Measuring coverage imports modules of its own before the command begins.
    env = {key: value for key, value in environment().items() if not key.startswith("COV")}
    env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"
    command = [sys.executable, "-m", "lykke_cli", "tail", str(uuid.uuid4())]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("line", ["lykke tail --chan", "lykke tail --profile x", "lykke tail 3"])
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_does_not_even_build_the_command_line(shell: str, line: str) -> None:
    modules = imported(
        _LYKKE_COMPLETE=f"complete_{shell}",
        COMP_WORDS=line,
        COMP_CWORD=str(line.count(" ")),
        _TYPER_COMPLETE_ARGS=line,
    )
    assert "lykke_cli.cli.arguments.completion" in modules
    assert not modules & {*_HEAVY, "typer", "rich", "pydantic", "asyncio"}


def test_publish_imports_no_database(redis_server: RedisServer) -> None:
    modules = imported("publish", uuid.uuid4(), REDIS_URL=redis_server.url)
    assert "redis" in modules
    assert "pydantic" not in modules
    assert not modules & {"sqlalchemy", "asyncpg", "aiosqlite"}


def test_tail_needs_no_redis_py(redis_server: RedisServer) -> None:
    arguments = ["tail", uuid.uuid4(), "--live-only", "-o", "ndjson", "--timeout", "0.1s"]
    modules = imported(*arguments, REDIS_URL=redis_server.url)
    assert "hiredis" in modules
    assert "lykke_cli.cli.commands.publish" not in modules
    assert not modules & {*_HEAVY, "rich", "pydantic"}


def test_groups_needs_no_redis_py(redis_server: RedisServer) -> None:
    modules = imported("groups", "--channel", "unheard-of", REDIS_URL=redis_server.url)
    assert "hiredis" in modules
    assert not modules & {"redis", "sqlalchemy", "asyncpg", "aiosqlite"}


def test_the_package_itself_imports_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, lykke_cli; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert not set(done.stdout.split()) & {*_HEAVY, "typer", "asyncio", "orjson"}


def test_the_package_lists_the_names_that_it_imports_on_first_use() -> None:
    assert {"AuditLogEntity", "MemoryPubSubGateway", "RedisPubSubGateway"} <= set(dir(lykke_cli))
    assert all(hasattr(lykke_cli, name) for name in dir(lykke_cli))


def test_tail_needs_nothing_of_a_bridge_unless_it_follows_through_one(
    redis_server: RedisServer,
) -> None:
    arguments = ["tail", uuid.uuid4(), "--live-only", "-o", "ndjson", "--timeout", "0.1s"]
    modules = imported(*arguments, REDIS_URL=redis_server.url)
    assert not [name for name in modules if name.startswith("websockets") or "bridge" in name]
    assert "lykke_cli.cli.runs.remote" not in modules
    modules = imported("tail", uuid.uuid4(), "--from", "http://localhost:1")
    assert "websockets.asyncio.client" in modules
    assert not modules & {*_HEAVY, "hiredis", "starlette", "uvicorn"}
