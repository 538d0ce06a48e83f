"""A client of bridges, which comes back with the cursor of the last whole frame that it got."""

import http.client
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

import msgspec
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.nemesis.plan import Via

TOKEN = "a-token-for-the-nemesis"
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}
SILENCE = 40.0  # seconds without a frame after which it connects anew; heartbeats come in 25
PAUSE = 0.3  # seconds at most before it does
FEW = 32 << 10  # bytes that a narrow one has room for
INEXACT = "the place does not fit exactly: entries may come twice"
_FINAL = (4400, 4401, 4403)  # close codes after which it is no use to try again


class Place(msgspec.Struct):
    """Where a client stands."""

    cursor: str | None = None
    open: set[str] = msgspec.field(default_factory=set)
    """Ids of the entries that came since that cursor did, on the same connection."""
    again: set[str] = msgspec.field(default_factory=set)
    """Of those of earlier ones: they come once more."""


class Refused(Exception):
    """The bridge says that it is no use to try again."""


class BridgeClient:
    """The part of ReaderProcess that an attack uses; it runs in a thread.

    `ports` are the bridges' between which it moves, `begin` says where it begins without a cursor.
    With `until_caught_up` it ends there.
    """

    def __init__(
        self,
        via: Via,
        user: str,
        place: Place,
        ports: Sequence[int],
        begin: dict[str, Any],
        *,
        follows: str,
        until_caught_up: bool,
        narrow: bool,
        stalled: bool,
    ) -> None:
        self.lines: list[tuple[float, bytes]] = []
        self.spawned = time.monotonic()
        self.status: int | None = None
        self.stderr = ""
        self.worked = 0.0
        self._via = via
        self._frames = self._of_socket if via == "socket" else self._of_events
        self._user, self._place, self._ports, self._begin = user, place, ports, begin
        self._follows, self._until_caught_up, self._narrow = follows, until_caught_up, narrow
        self._said_at: dict[str, float] = {}
        self._slowly = False
        self._flowing, self._over = threading.Event(), threading.Event()
        if not stalled:
            self._flowing.set()
        self._hang_up: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # As a process has it

    def said_at(self, text: str) -> float | None:
        return self._said_at.get(text)

    def send(self, number: int) -> None:
        if number == signal.SIGSTOP:
            self.stall()
        elif number == signal.SIGCONT:
            self.flow()
        else:
            self._over.set()
            self._flowing.set()
            self._hang_up()

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self, *, slowly: bool = False) -> None:
        self._slowly = slowly
        self._flowing.set()

    def wait(self, seconds: float) -> bool:
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def close(self) -> None:
        self.send(signal.SIGKILL)
        self.wait(20)

    # As a client does it

    def _run(self) -> None:
        status = 1
        try:
            status = self._keep_coming()
        except Refused as error:
            status = 5
            self._say(str(error))
        except Exception as error:
            self._say(f"a bug of the client: {error!r}")
        finally:
            self.status = status

    def _keep_coming(self) -> int:
        while not self._over.is_set():
            try:
                if self._hear(random.choice(self._ports)):
                    return 0
            except ConnectionClosed as error:
                code = None if error.rcvd is None else error.rcvd.code
                if code in _FINAL:
                    raise Refused(f"closed: {error!r}") from error
                self._say(f"closed with {code}")
            except (OSError, EOFError, http.client.HTTPException, WebSocketException) as error:
                self._say(f"broken off: {error!r}")
            self._over.wait(random.uniform(0, PAUSE))
        return 130

    def _hear(self, port: int) -> bool:
        """One connection; True once there is no more to do."""
        place = self._place
        if self._via == "socket" or self._until_caught_up:  # else it keeps the cursor alone
            place.again |= place.open
        place.open.clear()
        if place.cursor is None:  # it begins, or has to begin again
            self.spawned = time.monotonic()
            self.lines.clear()
            place.again.clear()
        is_polled = self._until_caught_up and place.cursor is not None
        for text in (self._of_history if is_polled else self._frames)(port):
            if self._over.is_set():  # what is cut off here may be no whole frame
                return False
            if self._take(json.loads(text)) == "caught_up" and self._until_caught_up:
                return True
            self._flowing.wait()
            if self._slowly:
                self._over.wait(PAUSE)
        return False

    def _take(self, frame: dict[str, Any]) -> str:
        match frame.get("type"):
            case "auditlog":
                self._note([frame["data"]])
            case "auditlog_batch":
                self._note(frame["data"])
            case "subscribed" if not frame["exact"]:
                self._say(INEXACT)
            case "notice":
                self._say(frame["message"])
            case "error":
                self._say(f"told: {frame}")
                if not frame["temporary"]:
                    raise Refused(f"told: {frame}")
            case None if "user_id" in frame:  # a line of a history
                self._note([frame])
        if cursor := frame.get("cursor"):
            self._place.cursor = cursor
            self._place.open.clear()
            self._say(self._follows)
        return str(frame.get("type"))

    def _note(self, entries: list[dict[str, Any]]) -> None:
        now, place = time.monotonic(), self._place
        for entry in entries:
            place.open.add(entry["id"])
            if entry["id"] in place.again:
                place.again.remove(entry["id"])
            else:
                self.lines.append((now, json.dumps(entry).encode()))

    def _say(self, text: str) -> None:
        if text not in self._said_at or text == INEXACT:
            self._said_at[text] = time.monotonic()
            self.stderr += f"{text}\n"

    # The ways to be sent frames

    def _of_socket(self, port: int) -> Iterator[str | bytes]:
        with self._connected(port) as opened:
            where = {"cursor": self._place.cursor} if self._place.cursor else self._begin
            with connect(
                f"ws://127.0.0.1:{port}/ws/{self._user}",
                sock=opened,
                subprotocols=[Subprotocol("lykke.v1")],
                additional_headers=AUTHORIZATION,
                compression=None,
                open_timeout=10,
                ping_interval=None,
                close_timeout=0.5,
                max_size=None,
                max_queue=2,
            ) as websocket:
                websocket.send(json.dumps({"type": "resume"} | where))
                while True:
                    yield websocket.recv(SILENCE)

    def _of_events(self, port: int) -> Iterator[str | bytes]:
        place = {"Last-Event-ID": self._place.cursor} if self._place.cursor else {}
        query = urlencode(self._begin)
        fields: dict[str, str] = {}
        with self._connected(port) as opened:
            for line in _lines(opened, port, f"/events/{self._user}?{query}", place):
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                    continue
                if "data" in fields:
                    yield json.dumps(json.loads(fields["data"]) | {"cursor": fields.get("id")})
                fields = {}
        raise EOFError("the stream ended")

    def _of_history(self, port: int) -> Iterator[str | bytes]:
        path = f"/history/{self._user}?cursor={self._place.cursor}"
        with self._connected(port) as opened:
            yield from _lines(opened, port, path, {})
        raise EOFError("the history ended before its last line")

    @contextmanager
    def _connected(self, port: int) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", port), 10) as opened:
            if self._narrow:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FEW)

            def hang_up() -> None:
                with suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

            self._hang_up = hang_up
            if self._over.is_set():
                raise EOFError("it was ended")
            yield opened


def _lines(opened: socket.socket, port: int, path: str, headers: dict[str, str]) -> Iterator[bytes]:
    """The lines of an answer; what has no end is none."""
    opened.settimeout(SILENCE)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = opened
    connection.request("GET", path, headers=AUTHORIZATION | headers)
    with connection.getresponse() as answer:
        if answer.status != 200:
            text = answer.read().decode()
            if answer.status in (429, 503):
                raise EOFError(f"{answer.status}: {text}")
            raise Refused(f"{answer.status}: {text}")
        while (line := answer.readline()).endswith(b"\n"):
            yield line
