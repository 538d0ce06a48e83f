"""E-mail addresses in place of ids, as far as they may be read."""

import asyncio
import time
from collections.abc import Iterable, Sequence

from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.bootstrap import make_users
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import Settings

PATIENCE = 1.0  # seconds for one look-up
PAUSE = 60.0  # seconds after one that failed
MOST_KNOWN = 10_000  # users that are remembered, with an address or without
MOST_AT_ONCE = 1_000  # that are looked up; what is left has its turn when it comes again


class Emails:
    """Looks each user up once, on a connection of its own; where it cannot, it says nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._not_before = 0.0  # on the clock of time.monotonic
        self.known: dict[str, str] = {}
        """By id; empty for who has none."""

    async def meet(self, arrivals: Sequence[Arrival]) -> None:
        """Look up whose entries these are."""
        messages = [arrival.message for arrival in arrivals]
        await self.look_up(m.user_id for m in messages if isinstance(m, Entry))

    async def look_up(self, user_ids: Iterable[str]) -> None:
        """Look up those of them who were not before."""
        new = list(dict.fromkeys(id for id in user_ids if id not in self.known))[:MOST_AT_ONCE]
        if not new or time.monotonic() < self._not_before:
            return
        try:
            async with asyncio.timeout(PATIENCE), make_users(self._settings) as users:
                if not await users.have_emails():
                    self._not_before = float("inf")
                    return
                found = await users.emails(new)
        except (LykkeError, TimeoutError):
            self._not_before = time.monotonic() + PAUSE
            return
        while len(self.known) > MOST_KNOWN - len(new):
            del self.known[next(iter(self.known))]
        self.known.update((id, found.get(id, "")) for id in new)
