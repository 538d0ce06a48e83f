"""A terminal is the same after strangers' text was shown on it."""

import asyncio
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

import pyte
import pytest

from tests.builders import entity, insert
from tests.cli_process import LykkeProcess
from tests.hostile import CORPUS

USER = uuid.UUID(int=1)
COLUMNS, LINES = 100, 30
# What resets a terminal comes first, what changes it for good last.
TEXTS = [text for text in reversed(CORPUS) if "\0" not in text]
CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[2K|[\r\n]")  # colours, a line written anew, its end


@pytest.fixture
def servers(redis_url: str, sqlite_url: str) -> dict[str, str]:
    """With an entry for each hostile text, which has it in each of its fields."""
    now = datetime.now(UTC)
    rows = [entity(USER, text or "X", now, {text: text}, entity_type=text) for text in TEXTS]
    asyncio.run(insert(sqlite_url, rows))
    return {"REDIS_URL": redis_url, "DATABASE_URL": sqlite_url}


@pytest.mark.parametrize("command", ["backfill", "tail"])
def test_a_terminal_is_as_it_was(command: str, servers: dict[str, str]) -> None:
    end = ["--count", len(TEXTS)] if command == "tail" else []
    with LykkeProcess(command, USER, "--since", "1h", *end, env=servers, terminal=COLUMNS) as lykke:
        shown = lykke.finish().stdout
    assert b"TIME" in shown and rb"\x1b]0;title" in shown
    assert [each for each in CONTROL.findall(shown.decode()) if not OURS.fullmatch(each)] == []

    untouched = state_after(b"")
    assert state_after(shown) == untouched
    harmed = state_after("\n".join(TEXTS).encode())  # so that the above could fail
    assert {name for name in untouched if harmed[name] == untouched[name]} == set()


def test_the_status_line_is_taken_away_before_anything_else_is_written(
    servers: dict[str, str],
) -> None:
    with LykkeProcess("tail", USER, "-n", 1, "--count", 1, env=servers, terminal=COLUMNS) as lykke:
        shown = lykke.finish().stdout
    screen = pyte.Screen(COLUMNS, LINES)
    pyte.ByteStream(screen).feed(shown)
    assert b"connecting" in shown
    assert not [line for line in screen.display if "connecting" in line or "0 entries" in line]


def state_after(output: bytes) -> Mapping[str, object]:
    """What a terminal keeps when something was written to it, and was not given before."""
    screen = pyte.Screen(COLUMNS, LINES)
    pyte.ByteStream(screen).feed(output)
    return {
        "title": screen.title,
        "icon": screen.icon_name,
        "modes": screen.mode,
        "scrolled": screen.margins,
        "pen": screen.cursor.attrs,
        "hidden": screen.cursor.hidden,
        "saved": screen.savepoints,
    }
