"""The channels that a hub follows, as users come and go."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Set
from uuid import UUID

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import LoginRefused, ServerUnavailable, UsageMistake
from lykke_cli.application.gateways.pubsub_protocol import Channel, MultiplexedSubscription
from lykke_cli.domain.errors import LykkeError

logger = logging.getLogger(__name__)


class HubChannels:
    """Brings the subscription in line with who is wanted; who comes together is added together.

    `confirmed` is called with users whose channels are followed, `refused` with one whose channel
    the server does not permit, or does not have: None is every user's.
    """

    def __init__(
        self,
        link: MultiplexedSubscription,
        channel_type: str,
        confirmed: Callable[[Set[UUID | None]], None],
        refused: Callable[[UUID | None, LykkeError], None],
    ) -> None:
        self._link = link
        self._type = channel_type
        self._confirmed = confirmed
        self._refused = refused
        self._wanted: set[UUID | None] = set()
        self._followed: set[UUID | None] = set()
        self._unconfirmed: set[UUID | None] = set()
        self._not_permitted: set[UUID | None] = set()
        self._something = asyncio.Event()

    def follow(self, user_id: UUID | None) -> None:
        self._not_permitted.discard(user_id)
        self._wanted.add(user_id)
        self._unconfirmed.add(user_id)
        self._something.set()

    def leave(self, user_id: UUID | None) -> None:
        self._wanted.discard(user_id)
        self._unconfirmed.discard(user_id)
        self._not_permitted.discard(user_id)
        self._something.set()

    def try_again(self, user_id: UUID | None) -> None:
        """Another reader has come: the channel may be permitted by now."""
        if user_id in self._not_permitted:
            self.follow(user_id)

    def dropped(self, error: LoginRefused) -> None:
        """The connection was taken up again, and not every channel was permitted."""
        there = {channel.user_id for channel in self._link.channels}
        for user_id in self._followed - there:
            self._followed.discard(user_id)
            self._refuse(user_id, error)

    async def run(self) -> None:
        """Do so for ever."""
        backoff = Backoff()
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                await self._change()
                backoff.reset()
            except ServerUnavailable as error:
                logger.warning("%s", error)
                self._something.set()
                await asyncio.sleep(backoff.next())

    async def _change(self) -> None:
        gone = self._followed - self._wanted
        self._followed -= gone
        if gone:
            await self._link.remove(self._channels(gone))
        if new := self._wanted - self._followed:
            await self._add(new)
        if known := self._unconfirmed & self._followed:
            self._unconfirmed -= known
            self._confirmed(known)

    async def _add(self, users: Set[UUID | None]) -> None:
        """One refusal is for all that are asked for together: then it is asked for fewer."""
        try:
            await self._link.add(self._channels(users))
        except (LoginRefused, UsageMistake) as error:
            if len(users) == 1:
                [user_id] = users
                self._refuse(user_id, error)
                return
            in_order = list(users)
            half = len(in_order) // 2
            await self._add(set(in_order[:half]))
            await self._add(set(in_order[half:]))
        else:
            self._followed |= users

    def _refuse(self, user_id: UUID | None, error: LykkeError) -> None:
        self._wanted.discard(user_id)
        self._not_permitted.add(user_id)
        self._refused(user_id, error)

    def _channels(self, users: Iterable[UUID | None]) -> list[Channel]:
        return [Channel(user_id, self._type) for user_id in users]
