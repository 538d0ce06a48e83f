"""uvicorn's WebSockets, which make of a message one frame for all who are sent it."""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

FRAME = "lykke.frame"
"""The key under which a message keeps it; a server that does not know it passes it over."""


class SharingProtocol(WebSocketsSansIOProtocol):
    """What several clients are sent is the same message, so it is encoded and framed once.

    There is no compression, which would make it another one for each of them.
    """

    async def send(self, message: Any) -> None:
        """As uvicorn does it, but for the text of an open connection."""
        if "text" not in message or not self.handshake_complete:
            return await super().send(message)
        if not self.writable.is_set():
            await self.writable.wait()
        if not self.send_now([message]):
            await super().send(message)

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
