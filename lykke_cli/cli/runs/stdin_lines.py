"""Lines of stdin, waited for without holding up the event loop: Ctrl-C ends the waiting."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator

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
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except PermissionError:  # a file, which keeps nobody waiting
        return os.read(descriptor, _AT_ONCE)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _AT_ONCE)
