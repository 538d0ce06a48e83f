"""`lykke` as a real process: run to its end, or driven while it runs."""

import contextlib
import fcntl
import io
import os
import pty
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self
from unittest import mock

import orjson

from lykke_cli.cli.app import run
from tests.forked import ForkedProcess
from tests.programs import program

DEADLINE = 30.0  # seconds


@dataclass(frozen=True)
class Result:
    stdout: bytes
    stderr: str
    status: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """stdout as NDJSON."""
        return [orjson.loads(line) for line in self.stdout.splitlines()]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lykke_cli", *map(str, arguments)]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The test's environment, which a fixture has scrubbed, with this tree's code to import."""
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **(changes or {})}


def run_lykke(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    input: bytes = b"",
    timeout: float = DEADLINE,
) -> Result:
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        stdin.write(input)
        stdin.seek(0)
        process = ForkedProcess(
            list(map(str, arguments)),
            environment(env),
            stdin.fileno(),
            out.fileno(),
            err.fileno(),
        )
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return Result(out.read(), err.read().decode(), status)


def call_lykke(*arguments: object, env: Mapping[str, str] | None = None) -> Result:
    """`lykke` within this process: for what ends before it begins, such as a wrong argument."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, env or {}),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
    ):
        status = run(list(map(str, arguments)))
    for stream in (out, err):
        stream.seek(0)
    return Result(out.read().encode(), err.read(), status)


class LykkeProcess:
    """A running `lykke`; killed at the end of the block, whatever happened.

    `clock_offset` sets its clock so many seconds wrong.
    `terminal` gives it a pseudo-terminal of so many columns for stdout and stderr together, or
    with a descriptor as `stdout` for stderr alone; what is on the screen is our `stdout`.
    `reading=False` leaves stdout unread until `resume_reading`.
    """

    def __init__(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        terminal: int | None = None,
        stdout: int | None = None,
        reading: bool = True,
        clock_offset: float = 0,
    ) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._said = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._stderr: IO[bytes] | None = None
        self.modes_before: list[object] = []
        err: IO[bytes] | None = None
        self.process: ForkedProcess | subprocess.Popen[bytes]
        if terminal is None:
            (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe()
            with open(os.devnull, "rb") as nothing:
                self.process = self._start_process(
                    arguments,
                    environment(env),
                    clock_offset,
                    nothing.fileno(),
                    out_write,
                    err_write,
                )
            os.close(out_write)
            os.close(err_write)
            out, err = open(out_read, "rb", 0), open(err_read, "rb", 0)
            self._stderr = err
        else:
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, terminal, 0, 0))
            self.modes_before = list(termios.tcgetattr(slave))
            self.process = self._start_process(
                arguments,
                {"TERM": "xterm-256color", **environment(env)},
                clock_offset,
                *(slave, slave if stdout is None else stdout, slave),
            )
            os.close(slave)
            out, err = os.fdopen(master, "rb", 0), None
        assert out is not None
        self._stdout = out
        if reading:
            self.resume_reading()
        if err is not None:
            self._start(self._read_err, err)

    def _start_process(
        self,
        arguments: tuple[object, ...],
        env: dict[str, str],
        clock_offset: float,
        *streams: int,
    ) -> "ForkedProcess | subprocess.Popen[bytes]":
        words = list(map(str, arguments))
        if not clock_offset:
            return ForkedProcess(words, env, *streams)
        stdin, stdout, stderr = streams
        return subprocess.Popen(
            [*program("lykke_by_another_clock"), str(clock_offset), *words],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for thread in self._threads:
            thread.join(DEADLINE)
        self._stdout.close()
        if self._stderr is not None:
            self._stderr.close()
        if exc is not None:
            sys.stderr.write(f"--- stderr of lykke\n{self.stderr}")

    @property
    def stdout(self) -> bytes:
        return b"".join(self._out)

    @property
    def stderr(self) -> str:
        return b"".join(self._err).decode("utf-8", "replace")

    @property
    def modes(self) -> list[object]:
        """Those of its terminal, which were `modes_before` when it was started."""
        return list(termios.tcgetattr(self.descriptor))

    @property
    def descriptor(self) -> int:
        """Where its stdout is read from."""
        return self._stdout.fileno()

    def resume_reading(self) -> None:
        self._start(self._read_out, self._stdout)

    def line(self, timeout: float = DEADLINE) -> bytes:
        """The next line of stdout; fails when there is none in time."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no line in {timeout} s; stderr: {self.stderr}") from None
        assert line is not None, f"stdout ended; stderr: {self.stderr}"
        return line

    def row(self, timeout: float = DEADLINE) -> dict[str, Any]:
        """The next line as JSON."""
        value: dict[str, Any] = orjson.loads(self.line(timeout))
        return value

    def wait_for(self, text: str, timeout: float = DEADLINE, times: int = 1) -> None:
        """Wait until stderr (on a terminal, the screen) has `text`, so many times."""

        def said() -> bool:
            return (self.stderr + self.stdout.decode("utf-8", "replace")).count(text) >= times

        with self._said:
            if not self._said.wait_for(said, timeout):
                raise AssertionError(f"no {text!r} in {timeout} s: {self.stderr}{self.stdout!r}")

    def type(self, text: str) -> None:
        """Type at its terminal."""
        os.write(self._stdout.fileno(), text.encode())

    def send(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def finish(self, timeout: float = DEADLINE) -> Result:
        """Wait for its end."""
        status = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(timeout)
        return Result(self.stdout, self.stderr, status)

    def stop(self, number: int = signal.SIGINT) -> Result:
        """Signal it, and wait for its end."""
        self.send(number)
        return self.finish()

    def _start(self, target: Any, stream: IO[bytes]) -> None:
        thread = threading.Thread(target=target, args=(stream,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read_out(self, stream: IO[bytes]) -> None:
        rest: list[bytes] = []  # of a line that may be long
        for chunk in self._chunks(stream, self._out):
            *lines, last = chunk.split(b"\n")
            for line in lines:
                self._lines.put(b"".join([*rest, line, b"\n"]))
                rest.clear()
            rest.append(last)
        if any(rest):
            self._lines.put(b"".join(rest))
        self._lines.put(None)

    def _read_err(self, stream: IO[bytes]) -> None:
        for _ in self._chunks(stream, self._err):
            pass

    def _chunks(self, stream: IO[bytes], kept: list[bytes]) -> Iterator[bytes]:
        """What comes, as it comes: a progress bar ends no line."""
        with contextlib.suppress(OSError, ValueError):  # a pty ends with EIO
            while chunk := os.read(stream.fileno(), 65536):
                with self._said:
                    kept.append(chunk)
                    self._said.notify_all()
                yield chunk
