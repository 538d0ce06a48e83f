"""The channels that a hub follows are those of its users, and change a few at a time."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable, Set
from contextlib import asynccontextmanager
from typing import cast

from lykke_cli import LoginRefused, LykkeError, ServerUnavailable, UsageMistake
from lykke_cli.application.ending import end
from lykke_cli.application.gateways.pubsub_protocol import Channel, MultiplexedSubscription
from lykke_cli.application.hub_channels import HubChannels

USERS = [uuid.UUID(int=number) for number in range(8)]
SOON = 20.0  # seconds


class Link:
    """A subscription, which permits all channels but those of `forbidden` users."""

    def __init__(self) -> None:
        self.channels: set[Channel] = set()
        self.asked: list[tuple[str, int]] = []
        self.forbidden: set[uuid.UUID] = set()
        self.errors: list[Exception] = []
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def add(self, channels: Iterable[Channel]) -> None:
        new = set(channels)
        self.asked.append(("add", len(new)))
        await self.is_open.wait()
        if self.errors:
            raise self.errors.pop()
        if any(channel.user_id is None for channel in new):
            raise UsageMistake("There is no subscription to every user.")
        if any(channel.user_id in self.forbidden for channel in new):
            raise LoginRefused("no permission")
        self.channels |= new

    async def remove(self, channels: Iterable[Channel]) -> None:
        gone = set(channels)
        self.asked.append(("remove", len(gone)))
        await self.is_open.wait()
        self.channels -= gone


class Followed:
    def __init__(self) -> None:
        self.link = Link()
        self.confirmed: list[uuid.UUID | None] = []
        self.too_early: set[uuid.UUID | None] = set()
        self.refused: list[uuid.UUID | None] = []
        link = cast(MultiplexedSubscription, self.link)
        self.channels = HubChannels(link, "auditlog", self._confirm, self._refuse)

    @property
    def users(self) -> set[uuid.UUID | None]:
        return {channel.user_id for channel in self.link.channels}

    def _confirm(self, users: Set[uuid.UUID | None]) -> None:
        self.too_early |= users - self.users
        self.confirmed += users

    def _refuse(self, user_id: uuid.UUID | None, error: LykkeError) -> None:
        self.refused.append(user_id)


@asynccontextmanager
async def following(users: Iterable[uuid.UUID | None]) -> AsyncGenerator[Followed]:
    followed = Followed()
    for user in users:
        followed.channels.follow(user)
    task = asyncio.create_task(followed.channels.run())
    try:
        async with asyncio.timeout(SOON):
            yield followed
        assert not followed.too_early
    finally:
        await end({task})


async def until_confirmed(followed: Followed, number: int) -> None:
    while len(followed.confirmed) < number:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_who_comes_together_is_added_together() -> None:
    async with following(USERS) as followed:
        await until_confirmed(followed, len(USERS))
        assert followed.link.asked == [("add", len(USERS))]
        assert followed.users == set(USERS)


async def test_who_leaves_and_comes_back_at_once_is_followed_without_a_break() -> None:
    async with following(USERS[:1]) as followed:
        await until_confirmed(followed, 1)
        followed.channels.leave(USERS[0])
        followed.channels.follow(USERS[0])
        await until_confirmed(followed, 2)
        assert followed.link.asked == [("add", 1)]


async def test_who_comes_back_while_it_is_removed_is_added_after_that() -> None:
    async with following(USERS[:1]) as followed:
        await until_confirmed(followed, 1)
        followed.link.is_open.clear()
        followed.channels.leave(USERS[0])
        while len(followed.link.asked) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        followed.channels.follow(USERS[0])
        followed.link.is_open.set()
        await until_confirmed(followed, 2)
        assert followed.users == {USERS[0]}
        assert followed.link.asked == [("add", 1), ("remove", 1), ("add", 1)]


async def test_who_leaves_before_it_is_added_is_not_confirmed_and_is_removed() -> None:
    async with following(()) as followed:
        followed.link.is_open.clear()
        followed.channels.follow(USERS[0])
        while not followed.link.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        followed.channels.leave(USERS[0])
        followed.channels.follow(USERS[1])
        followed.link.is_open.set()
        await until_confirmed(followed, 1)
        assert followed.confirmed == [USERS[1]]
        assert followed.users == {USERS[1]}


async def test_who_comes_while_others_are_added_is_confirmed_after_them() -> None:
    async with following(USERS[:1]) as followed:
        followed.link.is_open.clear()
        while not followed.link.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        followed.channels.follow(USERS[1])
        followed.link.is_open.set()
        await until_confirmed(followed, 2)
        assert followed.confirmed == USERS[:2]


async def test_where_there_is_no_subscription_to_every_user_the_others_are_followed() -> None:
    async with following([*USERS, None]) as followed:
        while len(followed.confirmed) < len(USERS):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert followed.users == set(USERS) and followed.refused == [None]


async def test_one_that_is_not_permitted_does_not_keep_the_others_back() -> None:
    async with following(()) as followed:
        followed.link.forbidden = {USERS[3]}
        for user in USERS:
            followed.channels.follow(user)
        await until_confirmed(followed, len(USERS) - 1)
        assert followed.refused == [USERS[3]]
        assert followed.users == set(USERS) - {USERS[3]}
        followed.link.forbidden = set()
        followed.channels.try_again(USERS[3])
        await until_confirmed(followed, len(USERS))


async def test_one_that_is_permitted_no_longer_is_told_after_a_gap() -> None:
    async with following(USERS) as followed:
        await until_confirmed(followed, len(USERS))
        followed.link.channels = {c for c in followed.link.channels if c.user_id != USERS[2]}
        followed.channels.dropped(LoginRefused("no permission"))
        assert followed.refused == [USERS[2]]


async def test_what_fails_is_tried_again() -> None:
    async with following(()) as followed:
        followed.link.errors = [ServerUnavailable("busy")]
        followed.channels.follow(USERS[0])
        await until_confirmed(followed, 1)
