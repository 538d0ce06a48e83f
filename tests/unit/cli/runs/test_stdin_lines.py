"""Lines of stdin where the event loop can watch it, and where it cannot."""

import asyncio
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from lykke_cli.cli.runs.stdin_lines import THREAD, stdin_lines


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Iterator[IO[bytes]]:
    """What is written to it comes from stdin."""
    read, write = os.pipe()
    with open(read) as stdin, open(write, "wb", 0) as end:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield end


def _watched(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None: ...


def _as_on_windows(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_reader(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(loop, "add_reader", add_reader)


def _as_a_terminal_on_macos(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_reader(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(loop, "add_reader", add_reader)


Platform = Callable[[asyncio.AbstractEventLoop, pytest.MonkeyPatch], None]
every_platform = pytest.mark.parametrize(
    "platform", [_watched, _as_on_windows, _as_a_terminal_on_macos]
)


@every_platform
async def test_lines_come_as_they_are_written(
    platform: Platform, end: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform(asyncio.get_running_loop(), monkeypatch)
    lines = stdin_lines()
    end.write(b"one\ntw")
    assert await anext(lines) == b"one"
    end.write(b"o\nthree")
    assert await anext(lines) == b"two"
    end.close()
    assert [line async for line in lines] == [b"three"]


@every_platform
@pytest.mark.parametrize("is_blocking", [True, False])
async def test_waiting_for_a_line_ends_when_it_is_cancelled(
    platform: Platform, is_blocking: bool, end: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.set_blocking(sys.stdin.fileno(), is_blocking)
    platform(asyncio.get_running_loop(), monkeypatch)
    waiting = asyncio.create_task(anext(stdin_lines()))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done  # and the loop got here
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    end.close()
    for thread in [thread for thread in threading.enumerate() if thread.name == THREAD]:
        await asyncio.to_thread(thread.join)


async def test_a_file_is_read_though_the_loop_never_calls_its_end_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(b"one\ntwo\n")
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_reader", lambda *_: None)  # as with kqueue
    monkeypatch.setattr(loop, "remove_reader", lambda *_: None)
    with (tmp_path / "in").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        async with asyncio.timeout(20):
            assert [line async for line in stdin_lines()] == [b"one", b"two", b""]
