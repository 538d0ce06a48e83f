"""uvicorn's WebSockets, for many clients: a message is framed once for all who are sent it.

And a client on which nothing happens takes little memory. There is no private name in this: where
a release of uvicorn calls something otherwise, it takes more again.
"""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from lykke_cli.web.waiting import Flag, Inbox

FRAME = "lykke.frame"
"""The key under which a message keeps it; a server that does not know it passes it over."""


class SharingProtocol(WebSocketsSansIOProtocol):
    """What several clients are sent is the same message, so it is encoded and framed once.

    There is no compression, which would make it another one for each of them.
    """

    # An object with over 30 attributes has a dictionary of its own, five times as large as one of
    # which the keys are shared. So these, which are asked for most, have a place in the object.
    __slots__ = (
        "close_sent",
        "conn",
        "disconnected",
        "handshake_complete",
        "queue",
        "read_paused",
        "response",
        "transport",
        "writable",
    )

    # Of these this class says what they are.
    queue: Any
    writable: Any
    response: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = Inbox[Any]()
        self.writable = Flag()

    async def send(self, message: Any) -> None:
        """As uvicorn does it, but for the text of an open connection."""
        if self.close_sent:  # by uvicorn, as nobody answers its pings; it would call this a bug
            raise ClientDisconnected
        if message["type"] == "websocket.accept":
            await super().send(message)
            self._forget_handshake()
            return
        if "text" not in message or not self.handshake_complete:
            return await super().send(message)
        if not self.writable.is_set():
            await self.writable.wait()
        if not self.send_now([message]):
            await super().send(message)

    def _forget_handshake(self) -> None:
        """Let go of 3 KB that nobody asks for any more; the parser keeps the request itself."""
        request = getattr(self, "request", None)
        if request is not None:
            request.headers.clear()
        self.response = None

    def send_now(self, messages: Sequence[Any]) -> bool:
        """Send texts at once; False, and nothing was sent, where that would wait or fail."""
        if not (self.handshake_complete and self.writable.is_set() and self._is_open()):
            return False
        for message in messages:
            frame = message.get(FRAME)
            if frame is None:
                text = message["text"].encode()
                frame = message[FRAME] = Frame(Opcode.TEXT, text).serialize(mask=False)
            self.transport.write(frame)
        return True

    def _is_open(self) -> bool:
        return not (self.disconnected or self.close_sent) and self.conn.state is State.OPEN
