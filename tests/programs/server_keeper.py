"""Starts a server for the tests, ends it with them, and removes its folder.

It takes requests as lines of JSON: the name of one of REQUESTS and its arguments. The end of its
standard input means that the tests are over. It signals only processes whose parent has not reaped
them yet, so a pid never is a stranger's. PostgreSQL's processes lead a session each, and a busy one
outlives the first of them, so they are looked up; every one of them holds the pipe `alive`, which
ends with the last. Where a PostgreSQL was killed its shared memory, of which the system has 4,096
pieces, goes with the folder. Arguments: the folder, the seconds that it waits for an end, and the
signal that ends the server for good, before SIGKILL does.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

folder, deadline, last = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
PATIENCE = 5  # seconds between the last signal and SIGKILL
IPC_RMID = 0
server: "subprocess.Popen[bytes] | None" = None
alive: int | None = None


def parents() -> Iterator[tuple[int, int]]:
    """Every process and its parent."""
    if os.path.exists("/proc/self/stat"):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as status:
                yield int(name), int(status.read().rpartition(b")")[2].split()[1])
    else:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE)
        for line in listing.stdout.splitlines():
            pid, parent = map(int, line.split())
            yield pid, parent


def signal_children(number: int) -> None:
    for pid, parent in list(parents()):
        if server is not None and parent == server.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def start(arguments: list[str], options: dict[str, Any]) -> int:
    global server, alive
    kill()
    alive, held = os.pipe()
    try:
        with open(os.path.join(folder, "log"), "ab") as log:
            server = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[held],
                **options,
            )
    finally:
        os.close(held)
    return server.pid


def poll() -> int | None:
    return server.poll() if server is not None else 0


def wait(seconds: float) -> int | None:
    return None if server is None else server.wait(seconds)


def freeze() -> None:
    if server is not None:
        server.send_signal(signal.SIGSTOP)  # first, so that it starts no more children
        signal_children(signal.SIGSTOP)


def thaw() -> None:
    if server is not None and poll() is None:
        signal_children(signal.SIGCONT)
        server.send_signal(signal.SIGCONT)


def stop(number: int) -> None:
    thaw()
    if server is not None:
        server.send_signal(number)
        server.wait(deadline)
    kill()


def kill() -> None:
    global server, alive
    if server is not None and poll() is None:
        freeze()
        signal_children(signal.SIGKILL)
        server.kill()
        server.wait()
    if alive is not None:
        if not select.select([alive], [], [], deadline)[0]:
            raise TimeoutError("its children live on")
        os.close(alive)
    server = alive = None


def remove_shared_memory() -> None:
    """That of a PostgreSQL which was killed: its postmaster.pid, left behind as well, names it."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        with open(os.path.join(folder, "data", "postmaster.pid")) as file:
            _, segment = file.read().splitlines()[6].split()
        ctypes.CDLL(None).shmctl(int(segment), IPC_RMID, None)


REQUESTS = {each.__name__: each for each in (start, poll, wait, freeze, thaw, stop, kill)}

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: None)  # unlike SIG_IGN, not passed on to the server
try:
    for line in sys.stdin:
        name, *given = json.loads(line)
        try:
            answer: list[Any] = [REQUESTS[name](*given), None]
        except Exception as error:
            answer = [None, repr(error)]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
except OSError:
    pass
finally:
    with contextlib.suppress(TimeoutError, subprocess.TimeoutExpired):
        if server is not None and poll() is None:
            thaw()
            server.send_signal(last)
            server.wait(PATIENCE)
    with contextlib.suppress(TimeoutError):
        kill()
        remove_shared_memory()
    end = time.monotonic() + deadline
    while os.path.exists(folder) and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
