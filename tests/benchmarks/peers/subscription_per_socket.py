"""A user's channel to WebSockets, a subscription for each; arguments: Redis URL, port."""

import sys
import uuid

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from lykke_cli import RedisPubSubGateway

gateway = RedisPubSubGateway(sys.argv[1])


async def follow(websocket: WebSocket) -> None:
    await websocket.accept()
    user_id = uuid.UUID(websocket.path_params["user_id"])
    async with (
        gateway.subscribe_to_user_channel(user_id, "auditlog") as subscription,
        anyio.create_task_group() as tasks,
    ):

        async def from_client() -> None:
            async for message in websocket.iter_json():
                await subscription.send_message(message)
            tasks.cancel_scope.cancel()

        tasks.start_soon(from_client)
        while True:
            message = await subscription.get_message()
            await websocket.send_json({"type": "auditlog", "data": message})


app = Starlette(routes=[WebSocketRoute("/ws/{user_id}", follow)])
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
