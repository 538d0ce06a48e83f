"""A terminal's keys are heard while it is ours, and it is left as it was."""

import asyncio
import os
import pty
import signal
import termios
from collections.abc import Iterator

import pytest

from lykke_cli.cli.output.keyboard import Keyboard

SOON = 20.0  # seconds


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """What the person types into, and what the program reads from."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


class Heard:
    def __init__(self) -> None:
        self.data = b""
        self._news = asyncio.Event()

    def __call__(self, data: bytes) -> None:
        self.data += data
        self._news.set()

    async def until(self, data: bytes) -> None:
        async with asyncio.timeout(SOON):
            while self.data != data:
                self._news.clear()
                await self._news.wait()


async def test_keys_come_one_by_one_and_are_not_echoed(terminal: tuple[int, int]) -> None:
    ours, its = terminal
    heard = Heard()
    with Keyboard(its, heard):
        os.write(ours, b"q")
        await heard.until(b"q")
        os.write(ours, "æ\r".encode())
        await heard.until("qæ\n".encode())
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 100)


async def test_the_terminal_is_as_it_was_afterwards(terminal: tuple[int, int]) -> None:
    _, its = terminal
    before, handlers = termios.tcgetattr(its), [signal.getsignal(n) for n in signal.Signals]
    with pytest.raises(ValueError), Keyboard(its, Heard()):
        assert not termios.tcgetattr(its)[3] & termios.ICANON
        raise ValueError
    assert termios.tcgetattr(its) == before
    assert [signal.getsignal(n) for n in signal.Signals] == handlers


async def test_the_modes_come_back_when_a_shell_has_changed_them(
    terminal: tuple[int, int],
) -> None:
    """As after SIGSTOP and fg."""
    ours, its = terminal
    before, heard = termios.tcgetattr(its), Heard()
    with Keyboard(its, heard):
        termios.tcsetattr(its, termios.TCSANOW, before)
        os.kill(os.getpid(), signal.SIGCONT)
        async with asyncio.timeout(SOON):
            while termios.tcgetattr(its)[3] & termios.ICANON:  # noqa: ASYNC110
                await asyncio.sleep(0)
        os.write(ours, b"q")
        await heard.until(b"q")
    assert termios.tcgetattr(its) == before


async def test_in_the_background_nothing_is_read_or_changed(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, its = terminal
    before, heard = termios.tcgetattr(its), Heard()
    front = os.getpgrp() + 1
    monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: front)
    with Keyboard(its, heard) as keyboard:
        assert termios.tcgetattr(its) == before
        front = os.getpgrp()
        keyboard.listen()
        os.write(ours, b"1")
        await heard.until(b"1")
        modes = termios.tcgetattr(its)
        front += 1
        os.write(ours, b"2")
        async with asyncio.timeout(SOON):
            while keyboard.is_listening:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert heard.data == b"1"
    assert termios.tcgetattr(its) == modes  # they are another's


async def test_a_terminal_that_hangs_up_is_let_go(terminal: tuple[int, int]) -> None:
    ours, its = terminal
    heard = Heard()
    with Keyboard(its, heard) as keyboard:
        os.close(ours)
        async with asyncio.timeout(SOON):
            while keyboard.is_listening:  # noqa: ASYNC110
                await asyncio.sleep(0)
        keyboard.listen()
        assert not keyboard.is_listening
