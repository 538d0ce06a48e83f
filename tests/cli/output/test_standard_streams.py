"""What stdout and stderr lead to: nothing, a full disk, a reader that takes little or leaves."""

import array
import asyncio
import fcntl
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import termios
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from tests.builders import entity, insert, wire
from tests.cli_process import DEADLINE, LykkeProcess, command, environment
from tests.programs import program
from tests.servers import RedisServer, wait_until

USER = uuid.UUID(int=1)
FULL = "lykke: Cannot write the output: No space left on device.\n"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def shell(script: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run it, `lykke` in it being this one; the status, stdout and stderr."""
    lykke = f'lykke() {{ {shlex.join(command())} "$@"; }}; '
    done = subprocess.run(
        ["bash", "-c", lykke + script],
        capture_output=True,
        text=True,
        env=environment(env),
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def publish(server: RedisServer, *payloads: bytes) -> None:
    with server.client() as client:
        for payload in payloads:
            client.publish(f"auditlog:{USER}", payload)


def unread(descriptor: int) -> int:
    """How many bytes a pipe has for its reader."""
    number = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, number)
    return number[0]


@needs_full
@pytest.mark.parametrize("arguments", ["--version", "--help", "tail --help", "doctor --timeout 1s"])
def test_a_full_disk_is_bad_output_in_one_line(arguments: str) -> None:
    status, _, stderr = shell(f"REDIS_URL=redis://127.0.0.1:1 lykke {arguments} >/dev/full")
    assert (status, stderr) == (5, FULL)


@pytest.mark.parametrize("arguments", ["--version", "--help", "tail --help"])
def test_a_stdout_that_was_closed_at_the_start_is_none(arguments: str) -> None:
    assert shell(f"lykke {arguments} >&-") == (0, "", "")


@pytest.mark.parametrize("lost", ["2>&-", "2>/dev/full"])
def test_without_stderr_the_status_still_tells(lost: str) -> None:
    assert shell(f"lykke tail no-uuid {lost}") == (2, "", "")


def test_without_stdin_there_is_nothing_to_publish(env: dict[str, str]) -> None:
    status, stdout, stderr = shell(f"lykke publish {USER} - <&-", env)
    assert (status, stderr) == (0, "") and "0 messages" in stdout


@pytest.mark.parametrize("lost", ["2>&-", "2>/dev/full", "2> >(exec true)"])
def test_without_stderr_the_data_goes_on(
    redis_server: RedisServer, env: dict[str, str], lost: str
) -> None:
    script = f"exec {shlex.join(command('tail', USER, '--count', '2'))} {lost}"
    with subprocess.Popen(
        ["bash", "-c", script], stdout=subprocess.PIPE, env=environment(env)
    ) as process:
        with redis_server.client() as client:
            wait_until(lambda: client.pubsub_numsub(f"auditlog:{USER}")[0][1], "a subscriber")
        publish(redis_server, b'{"n":1}', b'{"n":1}')
        stdout, _ = process.communicate(timeout=DEADLINE)
    assert (process.returncode, stdout) == (0, b'{"n":1}\n{"n":1}\n')


@needs_full
def test_a_disk_that_fills_up_ends_a_tail(redis_server: RedisServer, env: dict[str, str]) -> None:
    script = f"exec {shlex.join(command('tail', USER, '-q'))} >/dev/full"
    with subprocess.Popen(
        ["bash", "-c", script], stderr=subprocess.PIPE, env=environment(env), text=True
    ) as process:
        with redis_server.client() as client:
            wait_until(lambda: client.pubsub_numsub(f"auditlog:{USER}")[0][1], "a subscriber")
        publish(redis_server, b'{"n":1}')
        _, stderr = process.communicate(timeout=DEADLINE)
    assert (process.returncode, stderr) == (5, FULL)


@pytest.mark.parametrize("output", ["ndjson", "json", "csv", "table"])
def test_ctrl_c_ends_it_at_once_though_nobody_reads(
    redis_server: RedisServer, env: dict[str, str], output: str
) -> None:
    with LykkeProcess("tail", USER, "-o", output, env=env, reading=False) as tail:
        tail.wait_for("following")
        for _ in range(400):  # the table cuts them to the width of a terminal
            publish(redis_server, wire(entity(USER, "X" * 2_000, meta={"x": "x" * 2_000})))
        wait_until(lambda: unread(tail.descriptor) > 40_000, "a full pipe")
        tail.send(signal.SIGINT)
        assert tail.process.wait(DEADLINE) == 130


def test_a_stalled_stderr_stops_neither_data_nor_end(
    redis_server: RedisServer, env: dict[str, str]
) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"\n" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    with subprocess.Popen(
        command("tail", USER, "--count", 1),
        stdout=subprocess.PIPE,
        stderr=write,
        env=environment(env),
    ) as process:
        with redis_server.client() as client:
            wait_until(lambda: client.pubsub_numsub(f"auditlog:{USER}")[0][1], "a subscriber")
        publish(redis_server, b'{"n":1}')
        stdout, _ = process.communicate(timeout=DEADLINE)
    os.close(read)
    os.close(write)
    assert (process.returncode, stdout) == (0, b'{"n":1}\n')


def test_what_is_told_stands_whole_before_what_is_shown_next() -> None:
    """Also on a terminal that takes less than that at once."""
    told, telling = os.pipe()
    ours, theirs = pty.openpty()
    read = b""
    with subprocess.Popen(
        program("says_much"), stdin=telling, stdout=theirs, stderr=theirs, env=environment()
    ):
        os.close(telling)
        os.close(theirs)
        assert os.read(told, 1) == b""
        with suppress(OSError):  # a terminal ends so
            while data := os.read(ours, 10_000):
                read += data
    os.close(told)
    os.close(ours)
    assert re.fullmatch(rb"lykke: x{500000}\r\nshown\r\n", read)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("how", ["backfill", "plain"])
def test_a_stdout_that_is_non_blocking_gets_everything(
    kind: str, how: str, sqlite_url: str
) -> None:
    """So it is inherited from a program that made it so for itself."""
    words = program("writes_much")
    if how == "backfill":
        rows = [entity(USER, meta={"x": "x" * 1_000}) for _ in range(3_000)]
        asyncio.run(insert(sqlite_url, rows))
        words = command("backfill", USER, "--since", "1h", "--database-url", sqlite_url, "-q")
    if kind == "pipe":
        ours, theirs = os.pipe()
    else:
        ours, theirs = (each.detach() for each in socket.socketpair())
    os.set_blocking(theirs, False)
    read = bytearray()
    with subprocess.Popen(words, stdout=theirs, env=environment()) as process:
        os.close(theirs)
        while data := os.read(ours, 10_000):
            read += data
    os.close(ours)
    assert process.returncode == 0
    assert len(read) >= 3_000_000
    assert how == "plain" or read.count(b"\n") == 3_000
