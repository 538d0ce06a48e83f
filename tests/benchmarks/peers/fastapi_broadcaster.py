"""A user's channel to WebSockets, by FastAPI and encode/broadcaster; arguments: Redis URL, port.

Written as broadcaster's own documentation shows it.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from broadcaster import Broadcast
from fastapi import FastAPI, WebSocket

broadcast = Broadcast(sys.argv[1])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with broadcast:
        yield


app = FastAPI(lifespan=lifespan)


async def follow(websocket: WebSocket, user_id: str) -> None:
    await websocket.accept()
    channel = f"auditlog:{user_id}"
    async with anyio.create_task_group() as tasks:

        async def from_client() -> None:
            async for message in websocket.iter_text():
                await broadcast.publish(channel, message)
            tasks.cancel_scope.cancel()

        tasks.start_soon(from_client)
        async with broadcast.subscribe(channel) as subscriber:
            async for event in subscriber:
                await websocket.send_text(event.message)


app.add_api_websocket_route("/ws/{user_id}", follow)
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
