"""`/users` and `/counts`: short answers to what takes the database a while.

Few are worked out at a time, and none for long: a page that asks for much, or many pages, must not
take the database from those who follow.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.histogram import read_histogram
from lykke_cli.application.messages import encode
from lykke_cli.application.users import users_like
from lykke_cli.web.frames import Message
from lykke_cli.web.queries import COUNTS, USERS, asked
from lykke_cli.web.refusals import TOO_SLOW, Refusal, bad_request
from lykke_cli.web.streaming import Stream, body

LONGEST = 20.0  # seconds
BUCKETS, LISTED = 60, 50  # where it is not said how many
MOST_LISTED = 500


class Lookup(Stream):
    """One question."""

    kind = "lookup"
    media_type = b"application/json"

    async def work(self) -> None:
        """Answer, or raise Refusal where that takes too long."""
        try:
            async with asyncio.timeout(LONGEST):
                async with self.service.lookups:
                    text = encode(await self.answer())
        except TimeoutError:
            message = f"It took more than {LONGEST:g} seconds: ask for a shorter range of time."
            raise Refusal("too_slow", message, 503, TOO_SLOW) from None
        await self.write(body(text))

    async def answer(self) -> Any:
        """What is sent, as JSON values."""
        raise NotImplementedError

    def error_message(self, text: bytes) -> Message:
        """Never needed: there is but one part."""
        return body(text)


class Users(Lookup):
    """Who was active, the last one first."""

    async def answer(self) -> list[dict[str, Any]]:
        """As `lykke users` prints them."""
        wanted = asked(self.connection.scope["query_string"], USERS)
        selection = Selection(user_ids=None)
        scope = Scope(selection=selection, since=wanted.since, until=wanted.filters.until)
        limit = min(wanted.last or LISTED, MOST_LISTED)
        async with self.service.users as users:
            if wanted.q:
                found = await users_like(users, scope, limit, wanted.q)
            else:
                found = await users.active(scope, limit)
        return [user.to_dict() for user in found]


class Counts(Lookup):
    """How many entries there are over time, and of which types."""

    async def answer(self) -> dict[str, Any]:
        """The bars of a histogram."""
        wanted = asked(self.connection.scope["query_string"], COUNTS)
        if not wanted.filters.is_all_sql:
            raise bad_request("Only * and ? are counted by in activity_type and exclude, not [.")
        scope = Scope(
            selection=wanted.filters.selection(None if self.user_id is None else {self.user_id}),
            since=wanted.since,
            until=wanted.filters.until,
        )
        async with self.service.statistics as statistics:
            found = await read_histogram(
                statistics, scope, max(wanted.buckets or BUCKETS, 2), datetime.now(UTC)
            )
        return found.to_dict()
