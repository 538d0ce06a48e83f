"""Asking a server the same thing again and again."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.cli.output.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")


async def looks(ask: Callable[[], Awaitable[T]], interval: float) -> AsyncGenerator[tuple[T, str]]:
    """What was answered last, every `interval` seconds, and what is wrong since; empty is nothing.

    Raises what the first one does.
    """
    answer, trouble, backoff = await ask(), "", Backoff()
    while True:
        yield answer, trouble
        await asyncio.sleep(backoff.next() if trouble else interval)
        try:
            answer, trouble = await ask(), ""
            backoff.reset()
        except ServerUnavailable as error:
            trouble = f"{error.problem.rstrip('.')}; trying again"


async def redraw(
    terminal: Terminal,
    ask: Callable[[], Awaitable[T]],
    draw: Callable[[T, str], "RenderableType"],
    interval: float,
) -> None:
    """Draw what is answered, in the place of what was."""
    from rich.live import Live

    async with aclosing(looks(ask, interval)) as looked:
        answer, trouble = await anext(looked)
        with Live(console=terminal.out, auto_refresh=False) as live:
            while True:
                terminal.out.width = terminal.width  # it may have been resized
                live.update(draw(answer, trouble), refresh=True)
                answer, trouble = await anext(looked)


async def changing(
    ask: Callable[[], Awaitable[T]], interval: float, say: Callable[[str], None]
) -> AsyncGenerator[T]:
    """Each answer; what is wrong is said once, and when it is no more."""
    is_lost = False
    async with aclosing(looks(ask, interval)) as looked:
        async for answer, trouble in looked:
            if not trouble:
                if is_lost:
                    say("connected again")
                yield answer
            elif not is_lost:
                say(trouble)
            is_lost = bool(trouble)
