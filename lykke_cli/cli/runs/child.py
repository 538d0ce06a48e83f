"""A command that is run, and everything that it starts."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.output.countdown import Countdown

ENDING = 5.0  # seconds for the command to end when it is asked to
LOOK_INTERVAL = 0.05  # seconds between looks at whether it has
_LINES = 24  # of its terminal, where it has one
_READ = 65_536  # bytes of its output at a time
_HELD = 1 << 20  # bytes, more than a terminal holds when the command has ended


class CannotRun(UsageMistake):
    """The command cannot be started."""

    def __init__(self, name: str, error: OSError | ValueError) -> None:
        reason = error.strerror if isinstance(error, OSError) else error
        super().__init__(f"Cannot run {name}: {reason}.")
        self.status = 127 if isinstance(error, FileNotFoundError) else 126
        """What a shell's exit status is then."""


class Child:
    """The command while it is there; without a process it is one that has succeeded."""

    def __init__(self, process: Process | None) -> None:
        self._process = process
        self.may_leave = False
        """Whether what it left in the background may go on."""

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return 0 if self._process is None else self._process.returncode


@asynccontextmanager
async def running(
    command: Sequence[str], countdown: Countdown, ended: Callable[[], object]
) -> AsyncIterator[Child]:
    """Run the command, and call `ended` when it has.

    It leads a session of its own. Unless it `may_leave` something everything in it is ended, as
    nobody would look after it. Raises CannotRun.
    """
    if not command:
        yield Child(None)
        return
    with _told_apart(countdown) as output:
        process = await start(command, output=output)
        waiting = asyncio.create_task(process.wait())
        waiting.add_done_callback(lambda _: ended())
        child = Child(process)
        try:
            yield child
        finally:
            if not child.may_leave:
                await end_group(process.pid)
                await asyncio.wait({waiting}, timeout=ENDING)


@contextmanager
def _told_apart(countdown: Countdown) -> Iterator[int]:
    """What the command may write to: our stderr, or a terminal whose output is marked on ours.

    It is a terminal because the command would write differently into a pipe, and later. What is
    left in the background keeps it: `cat` passes on what is written there when nobody marks it.
    """
    if not countdown.is_seen:
        yield sys.stderr.fileno()
        return
    ours, its = _terminal_of(countdown.columns)
    loop = asyncio.get_running_loop()

    def relay() -> int:
        output = b""
        with suppress(BlockingIOError):  # for now there is nothing
            output = os.read(ours, _READ)
        if output:
            countdown.relay(output)
        return len(output)

    loop.add_reader(ours, relay)
    try:
        yield its
    finally:
        loop.remove_reader(ours)
        os.close(its)
        held = _HELD
        with suppress(OSError):  # nobody has it any more
            while held > 0 and (size := relay()):
                held -= size
            _pass_on(ours)
        os.close(ours)


def _terminal_of(columns: int) -> tuple[int, int]:
    """Both ends of a new terminal that passes on what is written as it is; ours does not block."""
    import termios

    ours, its = os.openpty()
    termios.tcsetwinsize(its, (_LINES, columns))
    attributes = termios.tcgetattr(its)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(its, termios.TCSANOW, attributes)
    os.set_blocking(ours, False)
    return ours, its


def _pass_on(terminal: int) -> None:
    """Let what is written to it reach our stderr, also when we are gone; raises OSError."""
    os.set_blocking(terminal, True)
    actions = [
        (os.POSIX_SPAWN_DUP2, terminal, 0),
        (os.POSIX_SPAWN_DUP2, sys.stderr.fileno(), 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),  # it complains of its end
    ]
    os.posix_spawnp("cat", ["cat"], os.environ, file_actions=actions)


async def start(
    command: Sequence[str], *, stdin: int | None = None, output: int | None = None
) -> Process:
    """Start the command in a session of its own; if this is cancelled meanwhile, it is ended.

    What it reads and writes is ours, unless given. Raises CannotRun.
    """
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=output, stderr=output, start_new_session=True
        )
    )
    try:
        return await asyncio.shield(starting)
    except (OSError, ValueError) as error:
        raise CannotRun(command[0], error) from error
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        if starting.exception() is None:
            await end_group(starting.result().pid)
        raise


async def end_group(leader: int) -> None:
    """Ask every process of the group to end, and kill what is left of it after ENDING seconds."""
    clock = asyncio.get_running_loop().time
    with suppress(ProcessLookupError, PermissionError):  # nobody is left, or nobody of ours
        os.killpg(leader, signal.SIGTERM)
        deadline = clock() + ENDING
        while clock() < deadline:
            os.killpg(leader, 0)
            await asyncio.sleep(LOOK_INTERVAL)  # who is not our child ends without a sign
        os.killpg(leader, signal.SIGKILL)
