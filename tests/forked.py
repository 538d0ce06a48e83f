"""Processes that begin with everything imported: forked from one that did it once.

A `lykke` takes half a second to import what it needs, and the tests start hundreds. Each process
made here is as real as any (its own pid, streams, signals, environment), only quicker to begin.
What start-up itself does is tested in test_start_up.py, with interpreters of its own.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

_DESCRIPTORS = 4  # stdin, stdout, stderr, and where to report
_REPORT = 8  # bytes of a report: the pid, then how it ended; the two may be there at once


class ForkedProcess:
    """The part of subprocess.Popen that the tests use; its streams are the caller's."""

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], stdin: int, stdout: int, stderr: int
    ) -> None:
        self._report, report = os.pipe()
        try:
            request = json.dumps([list(arguments), dict(env), os.getcwd()]).encode()
            socket.send_fds(_origin(), [request], [stdin, stdout, stderr, report])
        finally:
            os.close(report)
        self.pid = int(os.read(self._report, _REPORT))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("lykke", timeout or 0)
            self.returncode = int(os.read(self._report, _REPORT))
            os.close(self._report)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_connection: socket.socket | None = None


def _origin() -> socket.socket:
    """The process that forks the others, started on first use; it ends with this one."""
    global _connection
    if _connection is None:
        _connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(process.wait, 10)
        atexit.register(_connection.close)
    return _connection


def _serve(connection: socket.socket) -> None:
    import aiosqlite  # noqa: F401
    import asyncpg  # noqa: F401
    import redis.asyncio  # noqa: F401

    import lykke_cli.cli.output.live_table
    import lykke_cli.cli.runs.backfill
    import lykke_cli.cli.runs.tail
    import lykke_cli.infrastructure.gateways.redis_pubsub
    import lykke_cli.infrastructure.unit_of_work  # noqa: F401
    from lykke_cli.cli.app import make_app, run

    make_app()
    run(["tail", "no-uuid"])  # typer imports the rest on its first use
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, *_ = socket.recv_fds(connection, 1 << 20, _DESCRIPTORS)
        if not request:
            return
        if os.fork() == 0:
            connection.close()
            arguments, env, folder = json.loads(request)
            _watch(arguments, env, folder, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(arguments: list[str], env: dict[str, str], folder: str, descriptors: list[int]) -> None:
    """Fork the process, report its pid and then how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, report = descriptors
    leads, leading = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(report)
        os.close(leads)
        os.setsid()
        os.close(leading)
        _become(arguments, env, folder, streams)
    for descriptor in (*streams, leading):
        os.close(descriptor)
    os.read(leads, 1)  # ends when it leads a group: before that nobody could kill the group
    os.write(report, b"%-*d" % (_REPORT, pid))
    _, status = os.waitpid(pid, 0)
    os.write(report, b"%-*d" % (_REPORT, os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _become(arguments: list[str], env: dict[str, str], folder: str, streams: list[int]) -> None:
    # As a terminal starts it, whatever is ignored where the tests run (nohup, a background job).
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    for stream in streams:
        if stream > 2:
            os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    # As an interpreter has them: one that is replaced stays open.
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    sys.argv = ["lykke", *arguments]
    status: object = 1
    try:
        from lykke_cli.__main__ import main

        status = main()
    except SystemExit as stop:
        status = stop.code
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)
    _serve(socket.socket(fileno=int(sys.argv[1])))
