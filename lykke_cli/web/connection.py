"""A client's connection, whichever way it speaks: sending that is watched, and an end that is one.

uvicorn's `send` waits while its buffer is full, with a close frame too, and a closed transport
first waits until its buffer was taken. So a peer that reads nothing could hold its connection for
ever: it is aborted instead. ASGI has no word for that, but what uvicorn gives as `receive` is a
method of an object that has the transport; another server's connection ends when its kernel says.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lykke_cli.application.ending import end
from lykke_cli.web.frames import Frame, Message, own_frame
from lykke_cli.web.grant import Grant
from lykke_cli.web.refusals import NOT_KNOWN, TOO_SLOW, Refusal

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

FAREWELL = 5.0  # seconds for a client to take the last words
CLOSING = 15.0  # seconds for the closing handshake, of which uvicorn waits 10


class Gone(Exception):
    """The client has gone."""


class Restarting(Exception):
    """The process ends: the client is to come back, after so many milliseconds."""

    def __init__(self, after_ms: int) -> None:
        self.after_ms = after_ms

    def to_frame(self) -> Frame:
        """The message that says so."""
        return own_frame("reconnect", after_ms=self.after_ms)


class Listener(Protocol):
    """A client that follows, and understands what a bridge tells of itself."""

    def tell(self, status: Frame) -> None:
        """Send it, when there is time."""
        ...

    def beat(self) -> None:
        """Send something."""
        ...


class Connection:
    """One client. `run` does its work, which `check` and `stop` may end from outside."""

    def __init__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        loop = asyncio.get_running_loop()
        self.scope = scope
        self.receive = receive
        self.grant: Grant | None = None
        self.listener: Listener | None = None
        self._send = send
        self._clock = loop.time
        self._last_sent = loop.time()
        self._sending = 0
        self._reason: Exception | None = None  # for which it was ended
        self._over: asyncio.Future[None] | None = None
        self._server: Any = getattr(receive, "__self__", None)  # uvicorn's object for it

    async def send(self, message: Message) -> None:
        """Hand a message to the server; raises Gone. It may wait until the peer took others."""
        if not self._sending:  # else it is known since when nothing was taken
            self._last_sent = self._clock()
        self._sending += 1
        try:
            await self._send(message)
        except OSError as error:
            raise Gone from error
        finally:
            self._sending -= 1

    @property
    def sends_at_once(self) -> bool:
        """Whether its server has a way to send without waiting."""
        return hasattr(self._server, "send_now")

    def send_now(self, messages: Sequence[Message]) -> bool:
        """Hand messages to the server without waiting; what fails ends the connection.

        False, and nothing was sent, where the peer has not taken enough for that.
        """
        if self._sending or self._reason is not None:
            return False
        try:
            if not self._server.send_now(messages):
                return False
        except Exception as error:
            self.stop(error)
        self._last_sent = self._clock()
        return True

    async def run(self, *works: Coroutine[Any, Any, None]) -> None:
        """Do the works together until one of them ends; raises what it raised, or what ended it."""
        # asyncio.wait would do, but takes three times the memory while it waits.
        self._over = asyncio.get_running_loop().create_future()
        if self._reason is not None:
            self._end()
        tasks = [asyncio.create_task(work) for work in works]
        for task in tasks:
            task.add_done_callback(self._end)
        try:
            await self._over
        finally:
            await end(tasks)
            # Of all of them: asyncio logs a failure that nobody asked for, and several may fail.
            failures = [each.exception() for each in tasks if not each.cancelled()]
        if self._reason is not None:
            raise self._reason
        for failure in sorted(filter(None, failures), key=lambda each: isinstance(each, Gone)):
            raise failure

    def stop(self, reason: Exception) -> None:
        """End it: `run` raises `reason`."""
        self._reason = self._reason or reason
        self._end()

    def _end(self, ended: object = None) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def idle(self, now: float) -> float:
        """For how many seconds nothing was sent; `now` is by the loop's clock."""
        return 0.0 if self._sending else now - self._last_sent

    def check(self, now: float, stall: float) -> None:
        """End it where it took nothing for `stall` seconds, or its token no longer holds."""
        if self._sending and now - self._last_sent > stall:
            message = f"Nothing was taken for {stall:g} seconds: go on from the last cursor."
            self.stop(Refusal("too_slow", message, 408, TOO_SLOW, temporary=True))
        elif self.grant is not None and self.grant.seconds_left() == 0:
            message = "The token has expired: connect with a new one."
            self.stop(Refusal("token_expired", message, 401, NOT_KNOWN))

    async def say(self, *messages: Message) -> bool:
        """Its last words; False where the client does not take them in a moment."""
        try:
            async with asyncio.timeout(FAREWELL):
                for message in messages:
                    await self._send(message)
        except (OSError, TimeoutError):
            return False
        return True

    def abort(self, *, after: float = 0.0) -> None:
        """End the connection itself in so many seconds, whatever was not taken."""
        transport = getattr(self._server, "transport", None)
        if transport is None or (transport.is_closing() and not transport.get_write_buffer_size()):
            return
        asyncio.get_running_loop().call_later(after, transport.abort)
