"""Writing to a pipe, a terminal, a socket and a file, whose readers take what they like."""

import asyncio
import contextlib
import fcntl
import os
import pty
import socket
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lykke_cli.cli.output.outlet import THREAD, Outlet
from lykke_cli.cli.output.standard_streams import OutputClosed

MUCH = b"0123456789abcdef" * 1_000_000  # more than any of them holds


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


@contextlib.contextmanager
def pseudo_terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST  # newlines stay what they are
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    yield master, slave
    os.close(master)
    os.close(slave)


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[int, int]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours.fileno(), theirs.fileno()


@contextlib.contextmanager
def non_blocking_socket_pair() -> Iterator[tuple[int, int]]:
    with socket_pair() as (read, write):
        os.set_blocking(write, False)
        os.set_inheritable(write, True)  # somebody may have it too
        yield read, write


@contextlib.contextmanager
def non_blocking_pipe() -> Iterator[tuple[int, int]]:
    with pipe() as (read, write):
        os.set_blocking(write, False)
        yield read, write


ALL = [pipe, non_blocking_pipe, pseudo_terminal, socket_pair, non_blocking_socket_pair]
Pair = Callable[[], contextlib.AbstractContextManager[tuple[int, int]]]


def read_all(descriptor: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += os.read(descriptor, 1 << 20)
    return bytes(data)


def drain(descriptor: int) -> int:
    """How many bytes there are."""
    size = 0
    with contextlib.suppress(BlockingIOError):
        while data := os.read(descriptor, 1 << 20):
            size += len(data)
    return size


@pytest.mark.parametrize("pair", ALL)
async def test_a_reader_that_takes_nothing_does_not_stop_the_loop(pair: Pair) -> None:
    with pair() as (read, write):
        flags = fcntl.fcntl(write, fcntl.F_GETFL)
        outlet = Outlet(write)
        await outlet.write(b"first")
        writing = asyncio.create_task(outlet.write(MUCH))
        done, _ = await asyncio.wait({writing}, timeout=0.1)
        assert not done  # and the loop got here
        data = await asyncio.to_thread(read_all, read, 5 + len(MUCH))
        await writing
        assert data == b"first" + MUCH
        assert fcntl.fcntl(write, fcntl.F_GETFL) == flags


async def test_a_terminal_that_was_stopped_goes_on_where_it_was() -> None:
    with pseudo_terminal() as (master, slave):
        outlet = Outlet(slave)
        await outlet.write(b"a")
        termios.tcflow(slave, termios.TCOOFF)  # as Ctrl-S does
        writing = asyncio.create_task(outlet.write(b"b"))
        done, _ = await asyncio.wait({writing}, timeout=0.1)
        assert not done
        termios.tcflow(slave, termios.TCOON)
        await writing
        assert read_all(master, 2) == b"ab"


@pytest.mark.parametrize("pair", ALL)
async def test_what_was_cut_off_in_the_middle_is_followed_by_nothing(pair: Pair) -> None:
    with pair() as (read, write):
        outlet = Outlet(write)
        writing = asyncio.create_task(outlet.write(MUCH))
        await asyncio.wait({writing}, timeout=0.05)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        with pytest.raises(OutputClosed):
            await outlet.write(b"]")
        assert os.read(read, 16) == MUCH[:16]
        threads = [thread for thread in threading.enumerate() if thread.name == THREAD]
        if pair in (socket_pair, non_blocking_socket_pair):
            with socket.socket(fileno=os.dup(read)) as ours:
                ours.shutdown(socket.SHUT_RDWR)  # ends the thread that still writes
            for thread in threads:
                await asyncio.to_thread(thread.join)


@pytest.mark.parametrize("pair", [pipe, socket_pair, non_blocking_socket_pair])
async def test_of_a_write_that_is_cut_off_all_that_the_reader_gets_is_counted(pair: Pair) -> None:
    with pair() as (read, write):
        outlet = Outlet(write)
        writing = asyncio.create_task(outlet.write(MUCH))
        got = len(await asyncio.to_thread(read_all, read, 500_000))
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        sent = outlet.sent
        os.set_blocking(read, False)
        got += drain(read)
        for thread in [t for t in threading.enumerate() if t.name == THREAD]:
            await asyncio.to_thread(thread.join)  # there is room again, and it writes no more
        got += drain(read)
    assert got == sent == outlet.sent
    assert got < len(MUCH)


async def test_a_reader_that_goes_away_is_noticed_while_waiting() -> None:
    read, write = os.pipe()
    outlet = Outlet(write)
    writing = asyncio.create_task(outlet.write(MUCH))
    await asyncio.wait({writing}, timeout=0.05)
    os.close(read)
    with pytest.raises(OutputClosed):
        await writing
    os.close(write)


async def test_a_file_is_written_where_the_descriptor_stands(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    outlet = Outlet(descriptor)
    await outlet.write(b"one\n")
    with path.open("ab") as other:
        other.write(b"another's\n")
    await outlet.write(b"two\n")
    os.close(descriptor)
    assert path.read_bytes() == b"before\none\nanother's\ntwo\n"

    descriptor = os.open(path, os.O_WRONLY)
    os.lseek(descriptor, 3, os.SEEK_SET)
    await Outlet(descriptor).write(b"ORE")
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 6
    os.close(descriptor)
    assert path.read_bytes().startswith(b"befORE\none\n")
