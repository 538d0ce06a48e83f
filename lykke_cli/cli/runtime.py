"""Running a command's coroutine: the first signal stops it in order, the second kills."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from lykke_cli.cli.exit_codes import Stopped
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.starting import has_begun

T = TypeVar("T")
_HANG_UP = getattr(signal, "SIGHUP", None)  # not on Windows
ENDING_SIGNALS = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, _HANG_UP)))


class _Lines(logging.Handler):
    """Where log records go without --debug: our warnings and anybody's errors, a line for each."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.name.startswith("lykke_cli"):
            say(record.getMessage())


class _Visible(logging.Formatter):
    """Foreign text in a record, or in a traceback, does nothing to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(visible, super().format(record).splitlines()))


def log_in_detail() -> None:
    """Write every record to stderr, with its traceback."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible(logging.BASIC_FORMAT))
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])


def is_logged_in_detail() -> bool:
    """Whether `log_in_detail` was called."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


@contextmanager
def without_log() -> Iterator[None]:
    """For a command that tells of every fault in words of its own."""
    log = logging.getLogger("lykke_cli")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What went wrong where nobody waits for it is logged, but for a connection given up.

    Where an attempt to connect is cancelled, asyncpg leaves a future behind that tells of its end.
    """
    future, error = context.get("future"), context.get("exception")
    if isinstance(error, OSError) and not isinstance(future, asyncio.Task | None):
        return
    loop.default_exception_handler(context)


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end; raises Stopped when a signal to end came before that."""
    has_begun()
    logging.lastResort = _Lines(logging.WARNING)  # which is used where no handler is
    received: list[int] = []
    previous: dict[int, Any] = {}
    cancel: Callable[[], object] | None = None

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, _: FrameType | None) -> None:
        restore()
        received.append(number)
        if cancel is not None:
            with suppress(RuntimeError):  # the loop is closed: it has ended by itself
                cancel()

    async def supervised() -> T:
        nonlocal cancel
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_report)
        if task is not None:
            cancel = partial(loop.call_soon_threadsafe, task.cancel)
        if received:  # while the loop was being made
            raise asyncio.CancelledError
        return await main

    try:
        # Not loop.add_signal_handler: this one also runs while a write is blocked. And before there
        # is a loop: a KeyboardInterrupt in the making of it leaves a broken one behind.
        for number in ENDING_SIGNALS:
            if number == _HANG_UP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            previous[number] = signal.signal(number, handle)
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        if received:
            raise Stopped(received[0]) from None
        raise
    finally:
        restore()
        main.close()  # where it was never begun
