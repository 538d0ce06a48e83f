"""An HTTP answer that goes on: until its end, or the client's, or the server's."""

from typing import TYPE_CHECKING, ClassVar, Literal
from uuid import UUID

from starlette.exceptions import HTTPException

from lykke_cli.domain.errors import LykkeError
from lykke_cli.web.connection import CLOSING, Connection, Gone, Restarting
from lykke_cli.web.frames import Message
from lykke_cli.web.refusals import TOO_SLOW, refusal_of, unavailable
from lykke_cli.web.service import Service

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Stream:
    """One answer. Nothing is sent before the first `write`: until then it may still be refused."""

    kind: ClassVar[Literal["events", "history", "lookup"]]
    media_type: bytes

    def __init__(self, service: Service, connection: Connection, user_id: UUID | None) -> None:
        self.service = service
        self.connection = connection
        self.user_id = user_id
        self._has_begun = False

    async def work(self) -> None:
        """Write it all, with `write`."""
        raise NotImplementedError

    def farewell(self, restarting: Restarting) -> Message | None:
        """What is said last where the server ends; None where the answer is not whole then."""
        return None

    async def serve(self) -> None:
        """Answer; raises what is wrong with the request while nothing was sent."""
        connection = self.connection
        try:
            with self.service.seated(self.user_id, self.kind):
                await connection.run(self.work(), self._watch())
            await self._begin()
            await connection.send(body(b"", more=False))
        except Gone:
            pass
        except Restarting as restarting:
            last_words = self.farewell(restarting) if self._has_begun else None
            if last_words is None:
                await self._break_off(unavailable("The server ends: ask again."))
            elif not await connection.say(last_words, body(b"", more=False)):
                connection.abort()
        except LykkeError as error:
            await self._break_off(error)

    async def write(self, message: Message) -> None:
        """Send a part of the body; raises Gone."""
        await self._begin()
        await self.connection.send(message)

    async def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            headers = [
                (b"content-type", self.media_type),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),  # nginx would hold it back
            ]
            await self.connection.send(
                {"type": "http.response.start", "status": 200, "headers": headers}
            )

    async def _watch(self) -> None:
        """Ends when the client has gone: nothing else would tell."""
        while (await self.connection.receive())["type"] != "http.disconnect":
            pass
        raise Gone

    async def _break_off(self, error: LykkeError) -> None:
        """Say what happened, and end the connection, not the answer: it is not whole.

        Raises it where nothing of the answer was sent: then it is the answer.
        """
        if not self._has_begun:
            raise error
        refusal = refusal_of(error)
        said = await self.connection.say(self.error_message(refusal.to_json()))
        self.connection.abort(after=CLOSING if said and refusal.close == TOO_SLOW else 0)

    def error_message(self, text: bytes) -> Message:
        """How an error is written in this kind of answer."""
        raise NotImplementedError


class Streams:
    """A route: an ASGI application."""

    def __init__(self, service: Service, kind: type[Stream]) -> None:
        self._service = service
        self._kind = kind

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request; raises what is wrong with it."""
        if scope["method"] == "HEAD":  # which Starlette lets through with GET
            raise HTTPException(405, headers={"Allow": "GET"})
        connection = Connection(scope, receive, send)
        with self._service.arrived(connection):
            user_id, connection.grant = await self._service.admit(scope)
            await self._kind(self._service, connection, user_id).serve()


def body(text: bytes, *, more: bool = True) -> Message:
    """A part of an answer's body."""
    return {"type": "http.response.body", "body": text, "more_body": more}
