"""`/ws/{user_id}`, and `/ws` of every user: entries to the client, and what it says to the channel.

Sending and receiving are two tasks: neither waits for the other.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from lykke_cli.application.bridge_frames import SUBPROTOCOL
from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.domain.errors import LykkeError
from lykke_cli.web.authorization import take_token
from lykke_cli.web.client_messages import (
    Acknowledgment,
    Broadcast,
    ClientMessage,
    Misunderstood,
    Resume,
    Token,
    parse,
)
from lykke_cli.web.connection import CLOSING, Connection, Gone, Restarting
from lykke_cli.web.feed import Feed, Start
from lykke_cli.web.frames import LYKKE_V1, PLAIN, Message, as_text
from lykke_cli.web.gate import deny, path_of
from lykke_cli.web.grant import Forbidden, Grant, Unauthorized
from lykke_cli.web.limits import Allowance
from lykke_cli.web.queries import FOLLOWING, Asked, asked, user_of
from lykke_cli.web.refusals import (
    NOT_UNDERSTOOD,
    RESTART,
    TOO_LARGE,
    TOO_MANY,
    Refusal,
    bad_request,
    refusal_of,
)
from lykke_cli.web.service import Service

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PATH = "/ws"
BUG = 1011
TOKEN_FIRST = "A token is needed first: in a header, as a sub-protocol, or as the first message."
LONGEST_REASON = 120  # bytes of UTF-8; a close frame has room for 123


class WebSockets:
    """The route: an ASGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one client until it, or the server, ends it."""
        try:
            self._service.check_open()
            token = take_token(scope)
            user_id = user_of(_user_in(path_of(scope)))
        except LykkeError as error:
            await deny(refusal_of(error), scope, receive, send)
            return
        await Socket(self._service, Connection(scope, receive, send), user_id, token).serve()


class Socket:
    """One client."""

    def __init__(
        self, service: Service, connection: Connection, user_id: UUID | None, token: str | None
    ) -> None:
        self._service = service
        self._connection = connection
        self._user_id = user_id
        self._token = token
        self._speaks_ours = SUBPROTOCOL in connection.scope["subprotocols"]
        self._allowance = Allowance(service.limits.messages_per_second)
        self._start: Start | None = None
        self._feed = Feed(service, connection, LYKKE_V1 if self._speaks_ours else PLAIN, user_id)

    async def serve(self) -> None:
        """From the handshake to the close."""
        connection, service = self._connection, self._service
        try:
            await connection.receive()  # that it wants to connect
            protocol = SUBPROTOCOL if self._speaks_ours else None
            await connection.send({"type": "websocket.accept", "subprotocol": protocol})
            with service.arrived(connection):
                await connection.run(self._shake_hands())
                with service.seated(self._user_id, "websocket"):
                    assert self._start is not None
                    await connection.run(self._feed.run(self._start), self._hear())
        except Gone:
            pass
        except Restarting as restarting:
            again = [as_text(restarting.to_frame())] if self._speaks_ours else []
            await self._close(RESTART, "The server ends: connect again.", *again)
        except LykkeError as error:
            refusal = refusal_of(error)
            await self._close(refusal.close, refusal.problem, _text(refusal.to_json()))
        except Exception:
            await self._close(BUG, "Something is wrong here: connect again.")
            raise
        finally:
            connection.abort(after=CLOSING)

    async def _close(self, code: int, reason: str, *words: Message) -> None:
        short = reason.encode()[:LONGEST_REASON].decode(errors="ignore")
        close = {"type": "websocket.close", "code": code, "reason": short}
        if not await self._connection.say(*words, close):
            self._connection.abort()

    # The handshake

    async def _shake_hands(self) -> None:
        """Find out who it is, and where it begins. It has a few seconds to say what is missing."""
        try:
            self._connection.grant = await self._grant(self._token)
        except Unauthorized:
            if self._token is not None:
                raise
            await self._hear_token()
        wanted = asked(self._connection.scope["query_string"], FOLLOWING)
        if self._speaks_ours and not wanted.says_where:
            wanted = await self._hear_beginning(wanted)
        self._start = Start.of(self._service, self._user_id, wanted)

    async def _hear_token(self) -> None:
        try:
            async with asyncio.timeout(self._service.limits.handshake):
                message = await self._message()
        except TimeoutError:
            raise Unauthorized(TOKEN_FIRST) from None
        if not isinstance(message, Token):
            raise Unauthorized(TOKEN_FIRST)
        self._connection.grant = await self._grant(message.token)

    async def _hear_beginning(self, wanted: Asked) -> Asked:
        """With where the client begins; it does from now on where it does not say it in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._service.limits.handshake):
                while True:
                    match await self._message():
                        case Resume(cursor, since, last):
                            return msgspec.structs.replace(
                                wanted, cursor=cursor, since=since, last=last
                            )
                        case Token(token):
                            await self._renew(token)
                        case _:
                            raise bad_request("The first message says where to begin: resume.")
        return wanted

    async def _grant(self, token: str | None) -> Grant:
        return await self._service.grant(token, self._connection.scope, self._user_id)

    # What follows

    async def _hear(self) -> None:
        """Heed what the client says; what cannot be is answered, and the connection goes on."""
        while True:
            try:
                await self._heed(await self._message())
            except LykkeError as error:
                refusal = refusal_of(error)
                if refusal.close in (TOO_MANY, TOO_LARGE):
                    raise
                await self._connection.send(_text(refusal.to_json()))

    async def _heed(self, message: ClientMessage) -> None:
        match message:
            case Token(token):
                await self._renew(token)
            case Resume():
                raise bad_request("It has begun already: connect anew to begin elsewhere.")
            case Broadcast() | Acknowledgment():
                await self._publish(message)

    async def _renew(self, token: str) -> None:
        """A newer token for the one that is about to expire."""
        grant = self._connection.grant
        assert grant is not None
        newer = await self._grant(token)
        self._connection.grant = grant.renewed_by(newer, reading=self._user_id)

    async def _publish(self, message: Broadcast | Acknowledgment) -> None:
        """To the channel, with who sent it; the client is told where that failed."""
        grant, user_id = self._connection.grant, self._user_id or message.user_id
        assert grant is not None
        if user_id is None:
            raise bad_request("Here every user is followed: user_id says to whose channel it goes.")
        if not grant.may_publish(user_id):
            raise Forbidden("The token does not allow to publish to this user.")
        published = message.published(grant.subject, datetime.now(UTC))
        await self._service.gateway.publish_to_user_channel(user_id, AUDIT_LOG, published)
        self._service.metrics.published()

    async def _message(self) -> ClientMessage:
        """What the client says next; raises Gone, and Refusal where it is not understood."""
        event = await self._connection.receive()
        if event["type"] == "websocket.disconnect":
            raise Gone
        if not self._allowance.takes(asyncio.get_running_loop().time()):
            raise Refusal("too_many", "Too many messages: send fewer.", 429, TOO_MANY)
        text = event.get("text")
        message = parse(
            event["bytes"] if text is None else text,
            most=self._service.limits.message_bytes,
            names_user=self._user_id is None,
        )
        if isinstance(message, Misunderstood):
            close = TOO_LARGE if message.code == "too_large" else NOT_UNDERSTOOD
            raise Refusal(message.code, message.message, 400, close)
        return message


def _user_in(path: str) -> str | None:
    if path == PATH:
        return None
    base, _, user = path.rpartition("/")
    if base != PATH or not user:
        where = f"{PATH}/USER_ID, or of every user at {PATH}"
        raise Refusal(
            "not_found", f"There is no WebSocket here, but at {where}.", 404, NOT_UNDERSTOOD
        )
    return user


def _text(json: bytes) -> Message:
    return {"type": "websocket.send", "text": json.decode()}
