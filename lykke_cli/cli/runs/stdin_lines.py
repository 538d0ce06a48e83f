"""Lines of stdin, waited for without holding up the event loop: Ctrl-C ends the waiting."""

import asyncio
import os
import select
import stat
import sys
from collections.abc import AsyncGenerator

from lykke_cli.cli.output.daemon_thread import in_daemon_thread

THREAD = "lykke-input"
_AT_ONCE = 1 << 16  # bytes


async def stdin_lines() -> AsyncGenerator[bytes]:
    descriptor = sys.stdin.fileno()
    begun: list[bytes] = []  # parts of a line whose end has not come
    while chunk := await _read(descriptor):
        first, *others = chunk.split(b"\n")
        begun.append(first)
        for line in others:
            yield b"".join(begun)
            begun = [line]
    yield b"".join(begun)


async def _read(descriptor: int) -> bytes:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        # It keeps nobody waiting; and at its end kqueue (macOS) never calls it readable.
        return os.read(descriptor, _AT_ONCE)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except (OSError, NotImplementedError):  # a device; a terminal on macOS; anything on Windows
        return await in_daemon_thread(lambda: _read_blocking(descriptor), THREAD)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _AT_ONCE)


def _read_blocking(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _AT_ONCE)
        except BlockingIOError:  # somebody made it so
            select.select([descriptor], [], [])
