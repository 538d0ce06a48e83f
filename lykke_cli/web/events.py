"""`/events/{user_id}`, and `/events` of every user: what `/ws` sends, as Server-Sent Events.

A browser goes on by itself.
"""

import random

import msgspec

from lykke_cli.web.connection import Restarting
from lykke_cli.web.feed import Feed, Start
from lykke_cli.web.frames import EVENTS, Message, as_event
from lykke_cli.web.queries import FOLLOWING, asked
from lykke_cli.web.streaming import Stream, body

SOONEST_MS, LATEST_MS = 1_000, 5_000
"""When a browser comes back after its connection broke: not all of them at once."""


class EventStream(Stream):
    """One client."""

    kind = "events"
    media_type = b"text/event-stream"

    async def work(self) -> None:
        """Follow, from the place that the browser remembers, or that is asked for."""
        wanted = asked(self.connection.scope["query_string"], FOLLOWING)
        place = dict(self.connection.scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
        if place:  # it comes again: the query says where it began
            wanted = msgspec.structs.replace(wanted, cursor=place, since=None, last=None)
        start = Start.of(self.service, self.user_id, wanted)
        await self.write(body(_retry(random.randrange(SOONEST_MS, LATEST_MS))))
        await Feed(self.service, self.connection, EVENTS, self.user_id).run(start)

    def farewell(self, restarting: Restarting) -> Message:
        """The browser takes the stream's end for a broken connection, and comes back."""
        event = as_event(restarting.to_frame())
        return body(_retry(restarting.after_ms) + event["body"])

    def error_message(self, text: bytes) -> Message:
        """As an event; browsers call a broken connection by the same name, but without data."""
        return body(b"event: error\ndata: %b\n\n" % text)


def _retry(milliseconds: int) -> bytes:
    return b"retry: %d\n\n" % milliseconds
