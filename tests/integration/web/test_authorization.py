"""Who is let in to a bridge, and for how long."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import pytest
from websockets.exceptions import InvalidStatus

from lykke_cli.web import Forbidden, Grant, Limits, Unauthorized, grant
from tests.bridges import connected, served
from tests.integration.web.conftest import Make


def grants(**by_token: Grant) -> Callable[[str | None, Any], Any]:
    async def authorize(token: str | None, scope: Any) -> Grant:
        if token is None:
            raise Unauthorized("A token is needed.")
        if token == "nobody":
            raise Forbidden("Not you.")
        if token not in by_token:
            raise Unauthorized("It is not known.")
        return by_token[token]

    return authorize


def reader(user_id: uuid.UUID, **fields: Any) -> Grant:
    return Grant(subject="ann", scopes=frozenset({"read"}), user_id=user_id, **fields)


async def test_a_token_may_come_as_the_first_message(make: Make, user: uuid.UUID) -> None:
    async with served(make(authorize=grants(ann=reader(user)))) as place:
        async with connected(place, user) as client:
            await client.say(type="token", token="ann")
            await client.say(type="resume")
            await client.hear_until("caught_up")
            await client.say(broadcast=True, data=1)
            error = await client.hear()
            assert (error["type"], error["code"]) == ("error", "not_allowed")
        async with connected(place, user, protocols=()) as plain:
            await plain.say(type="token", token="ann")
            await plain.say(type="dance")
            assert (await plain.hear())["code"] == "unknown_message"


@pytest.mark.parametrize(
    ("token", "first", "code"),
    [
        (None, None, 4401),
        (None, {"type": "resume"}, 4401),
        (None, {"type": "token", "token": "eve"}, 4401),
        ("eve", None, 4401),
        ("nobody", None, 4403),
        ("bob", {"type": "resume"}, 4403),  # another user's
    ],
)
async def test_who_may_not_is_told_and_sent_away(
    make: Make, user: uuid.UUID, token: str | None, first: dict[str, Any] | None, code: int
) -> None:
    authorize = grants(ann=reader(user), bob=reader(uuid.uuid4()))
    async with served(make(authorize=authorize, limits=Limits(handshake=0.2))) as place:
        protocols = ("lykke.v1", *([f"bearer.{token}"] if token else []))
        async with connected(place, user, protocols=protocols) as client:
            if first is not None:
                await client.say(**first)
            error = await client.hear()
            assert (error["type"], error["code"]) == ("error", "not_allowed")
            assert await client.closed() == code


async def test_a_token_that_expires_ends_the_connection_unless_it_is_renewed(
    make: Make, user: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        """Goes on by an hour when it is told to."""

        hours = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=cls.hours)

    monkeypatch.setattr(grant, "datetime", Clock)
    soon = datetime.now(UTC) + timedelta(minutes=30)
    authorize = grants(
        soon=reader(user, expires_at=soon),
        later=reader(user, expires_at=soon + timedelta(hours=1)),
        bob=Grant(subject="bob", scopes=frozenset({"read"}), user_id=user),
    )
    async with served(make(authorize=authorize, limits=Limits(heartbeat=1))) as place:
        async with (
            connected(place, user, protocols=("lykke.v1", "bearer.soon")) as ends,
            connected(place, user, protocols=("lykke.v1", "bearer.soon")) as goes_on,
        ):
            for client in (ends, goes_on):
                await client.say(type="resume")
                await client.hear_until("caught_up")
            for token in ("bob", "later", "bob"):  # the last is answered after the one before
                await goes_on.say(type="token", token=token)
            for _ in range(2):
                assert (await goes_on.hear_until("error"))["code"] == "not_allowed"
            Clock.hours = 1
            assert (await ends.hear_until("error"))["code"] == "token_expired"
            assert await ends.closed() == 4401
            assert (await goes_on.hear_until("heartbeat"))["cursor"]


async def test_a_token_in_the_url_and_a_page_of_another_site_are_refused_before_the_handshake(
    place: str, user: uuid.UUID
) -> None:
    for query, headers, status in (
        ("?token=secret", {}, 400),
        ("", {"Origin": "https://elsewhere.example"}, 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with connected(place, user, query, additional_headers=headers):
                pass
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["type"] == "error"
