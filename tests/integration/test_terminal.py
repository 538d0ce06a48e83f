"""A real terminal is the same after strangers' text was shown on it."""

import asyncio
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.builders import entity, insert
from tests.cli_process import environment
from tests.hostile import CORPUS
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
USER = uuid.UUID(int=1)
# What resets a terminal comes first, what changes it for good last.
TEXTS = [text for text in reversed(CORPUS) if "\0" not in text]
STATE = (
    *("pane_title", "window_name", "cursor_flag", "alternate_on", "mouse_any_flag", "insert_flag"),
    *("keypad_cursor_flag", "scroll_region_upper", "scroll_region_lower"),
)


class Tmux:
    """A server of its own, on a private socket."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder = folder
        self._env = environment(env | {"TMUX_TMPDIR": str(folder), "LC_ALL": "C.UTF-8"})

    def ask(self, *words: str) -> str:
        command = ["tmux", "-L", "lykke", "-f", "/dev/null", *words]
        done = subprocess.run(
            command, env=self._env, capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.rstrip("\n")

    def run(self, name: str, script: str) -> None:
        """Run it in a pane, whose title is set before; what follows it prints an x."""
        ended = self._folder / f"{name}.ended"
        waiting = self._folder / f"{name}.go"
        words = f"while [ ! -e {waiting} ]; do sleep 0.01; done; {script}; printf '\\nx\\n'"
        text = f"{words}; touch {ended}; exec sleep 60"
        size = ("-x", "100", "-y", "30")
        self.ask("new-session", "-d", "-s", name, *size, f"exec sh -c {shlex.quote(text)}")
        self.ask("select-pane", "-t", name, "-T", "before")
        self.ask("rename-window", "-t", name, "before")
        self.ask("set-option", "-s", "set-clipboard", "on")
        self.ask("set-option", "-w", "-t", name, "allow-rename", "on")
        waiting.touch()
        wait_until(ended.exists, f"{name} ends")

    def state(self, name: str) -> dict[str, str]:
        shown = self.ask(
            "display-message", "-p", "-t", name, "\n".join(f"#{{{each}}}" for each in STATE)
        )
        state = dict(zip(STATE, shown.split("\n"), strict=True))
        lines = self.ask("capture-pane", "-p", "-e", "-t", name).splitlines()
        state["x"] = next((line for line in reversed(lines) if "x" in line), "")
        state["buffers"] = self.ask("list-buffers")
        return state


@pytest.fixture
def tmux(tmp_path: Path, redis_url: str, sqlite_url: str) -> Iterator[Tmux]:
    tmux = Tmux(tmp_path, {"REDIS_URL": redis_url, "DATABASE_URL": sqlite_url})
    yield tmux
    tmux.ask("kill-server")


def test_a_terminal_is_as_it_was(tmux: Tmux, sqlite_url: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    rows = [entity(USER, text or "X", now, {text: text}, entity_type=text) for text in TEXTS]
    asyncio.run(insert(sqlite_url, rows))
    raw = tmp_path / "raw"
    raw.write_bytes("\n".join(TEXTS).encode())
    backfill = f"{sys.executable} -m lykke_cli backfill {USER} --since 1h"
    tail = f"{sys.executable} -m lykke_cli tail {USER} --since 1h --count {len(rows)}"
    tmux.run("lykke", f"{backfill}; {tail}")
    tmux.run("plain", "true")
    untouched = tmux.state("plain")
    assert tmux.state("lykke") == untouched
    shown = tmux.ask("capture-pane", "-p", "-S", "-", "-t", "lykke")
    assert shown.count("TIME ") == 2 and r"\x1b]0;title" in shown

    tmux.run("raw", f"cat {raw}")  # so that the above could fail
    harmed = tmux.state("raw")
    assert {name for name in untouched if harmed[name] == untouched[name]} == set()
