"""uvicorn's WebSockets, which make of a message one frame for all who are sent it."""

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
        text = message.get("text")
        if text is None or not self.handshake_complete:
            return await super().send(message)
        if not self.writable.is_set():
            await self.writable.wait()
        if self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            return await super().send(message)
        frame = message.get(FRAME)
        if frame is None:
            frame = message[FRAME] = Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
        self.transport.write(frame)
