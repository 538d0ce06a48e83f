"""The README keeps its word: its library code runs as written, its commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli_process import call_lykke
from tests.servers import RedisServer

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(
    {
        line.split("#")[0].strip().split("| ")[-1]
        for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
        if "lykke " in line.split("#")[0]
    }
)


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_library_snippets_run_as_written(
    snippet: str,
    database: str,
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    url = request.getfixturevalue(database)
    exec(compile(snippet, "README.md", "exec"), {"DATABASE_URL": url})


def test_there_are_snippets_and_commands() -> None:
    assert SNIPPETS
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("line", COMMANDS)
def test_every_option_shown_exists(line: str) -> None:
    words = shlex.split(line.replace("\\`", "'").replace("$U", "x"))
    words = words[: words.index("--")] if "--" in words else words
    command = words[1:3] if words[1] == "profile" else words[1:2]
    text = call_lykke(*command, "--help", env={"COLUMNS": "200"}).stdout.decode()
    for option in (word.split("=")[0] for word in words[2:] if word.startswith("-")):
        assert option == "-" or option in text
