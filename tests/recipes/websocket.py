import asyncio
import uuid
from typing import Any

from lykke_cli import Gap, PubSubGatewayProtocol


async def follow(websocket: Any, user_id: uuid.UUID, gateway: PubSubGatewayProtocol) -> None:
    """Pass a user's channel on to an accepted WebSocket, and what the client sends back."""
    async with gateway.subscribe_to_user_channel(user_id, "auditlog") as subscription:

        async def to_client() -> None:
            while True:
                message = await subscription.get_message(gaps=True)
                if isinstance(message, Gap):  # the client loads what it missed, from its own API
                    since = message.started_at.isoformat()
                    await websocket.send_json({"type": "gap", "since": since})
                elif isinstance(message, dict):  # what is no JSON object is left out
                    await websocket.send_json(message)

        async def from_client() -> None:
            while True:
                await subscription.send_message(await websocket.receive_json())

        tasks = [asyncio.create_task(to_client()), asyncio.create_task(from_client())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()  # raises what ended it: WebSocketDisconnect, as a rule
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
