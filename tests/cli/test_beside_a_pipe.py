"""What is drawn on a terminal keeps away from where a pipe's reader may write."""

import asyncio
import os
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.builders import entity, insert
from tests.cli_process import LykkeProcess

USER = uuid.UUID(int=11)
COMMANDS = {
    "tail": ["tail", USER, "--since", "1h", "--count", 3],
    "backfill": ["backfill", USER, "--since", "1h"],
}
DRAWN = re.compile(rb"\x1b|\r(?!\n)")


@pytest.fixture
def servers(redis_url: str, sqlite_url: str) -> dict[str, str]:
    now = datetime.now(UTC)
    asyncio.run(insert(sqlite_url, [entity(USER, "X", now) for _ in range(3)]))
    return {"REDIS_URL": redis_url, "DATABASE_URL": sqlite_url}


@pytest.mark.parametrize("command", COMMANDS)
def test_beside_a_pipe_there_are_only_whole_lines(command: str, servers: dict[str, str]) -> None:
    reader, writer = os.pipe()
    with (
        open(reader, "rb") as pipe,
        LykkeProcess(*COMMANDS[command], env=servers, terminal=80, stdout=writer) as lykke,
    ):
        os.close(writer)
        assert len(pipe.readlines()) == 3
        screen = lykke.finish().stdout
    assert not DRAWN.search(screen)
    assert screen.startswith(b"lykke: ") and screen.endswith(b"\r\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_leaves_the_screen_to_what_is_drawn(
    command: str, servers: dict[str, str], tmp_path: Path
) -> None:
    with (
        (tmp_path / "out").open("wb") as file,
        LykkeProcess(*COMMANDS[command], env=servers, terminal=80, stdout=file.fileno()) as lykke,
    ):
        screen = lykke.finish().stdout
    assert DRAWN.search(screen)
    assert len((tmp_path / "out").read_bytes().splitlines()) == 3
