"""What a page looks up: who was active, and how much happened when; bounded, and not for all."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Self

import asyncpg
import pytest

from lykke_cli.web import Grant, Unauthorized, lookups
from tests.bridges import PATIENCE, commit, get, served
from tests.integration.web.conftest import Make

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def test_users_are_listed_the_last_one_first(make: Make, database_url: str) -> None:
    ann, bob = uuid.UUID(int=0xA << 124), uuid.UUID(int=0xB << 124)
    await commit(database_url, ann, 2, occurred_at=NOON)
    await commit(database_url, bob, 1, occurred_at=NOON + timedelta(minutes=1))
    async with served(make(database_url=database_url)) as place:

        async def found(query: str) -> list[tuple[str, int]]:
            [users] = (await get(place, f"/users{query}")).lines
            return [(each["user_id"], each["entries"]) for each in users]

        assert await found("") == [(str(bob), 1), (str(ann), 2)]
        assert await found("?limit=1") == [(str(bob), 1)]
        assert await found("?q=A00") == [(str(ann), 2)]
        assert await found("?until=2026-01-31T12:00:30Z") == [(str(ann), 2)]
        assert await found("?q=%25") == await found("?q='%20OR%20'1'='1") == []
        assert (await get(place, "/users?q=a0")).lines == [
            [
                {
                    "user_id": str(ann),
                    "email": None,
                    "entries": 2,
                    "last": "2026-01-31T12:00:00.000000Z",
                }
            ]
        ]


async def test_entries_are_counted_over_time_and_by_type(
    make: Make, database_url: str, user: uuid.UUID
) -> None:
    await commit(database_url, user, 2, occurred_at=NOON, activity_type="A")
    await commit(database_url, user, 1, occurred_at=NOON + timedelta(seconds=50), activity_type="B")
    await commit(database_url, uuid.uuid4(), 1, occurred_at=NOON, activity_type="A")
    minute = "since=2026-01-31T12:00:00Z&until=2026-01-31T12:01:00Z&buckets=6"
    async with served(make(database_url=database_url)) as place:

        async def counted(path: str) -> tuple[list[int], dict[str, int]]:
            answer = await get(place, f"{path}?{minute}")
            assert answer.headers["content-type"] == "application/json"
            [counts] = answer.lines
            assert (counts["from"], counts["to"], counts["step_seconds"]) == (
                "2026-01-31T12:00:00.000000Z",
                "2026-01-31T12:01:00.000000Z",
                10,
            )
            types = {each["activity_type"]: each["entries"] for each in counts["types"]}
            return [bar["total"] for bar in counts["counts"]], types

        assert await counted(f"/counts/{user}") == ([2, 0, 0, 0, 0, 1], {"A": 2, "B": 1})
        assert await counted("/counts") == ([3, 0, 0, 0, 0, 1], {"A": 3, "B": 1})
        minute += "&exclude=A*"
        assert await counted(f"/counts/{user}") == ([0, 0, 0, 0, 0, 1], {"B": 1})
        [nothing] = (await get(place, f"/counts/{uuid.uuid4()}")).lines
        assert nothing["counts"] == [] and nothing["from"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/users?limit=0",
        "/users?q=%00",
        "/users?grep=x",
        "/counts?buckets=1001",
        "/counts?activity_type=[ab]*",
        "/counts?since=2h&until=3h",
        "/counts/me",
    ],
)
async def test_what_makes_no_sense_is_a_400(place: str, path: str) -> None:
    answer = await get(place, path)
    [error] = answer.lines
    assert (answer.status, error["code"]) == (400, "bad_request"), error


async def test_each_may_only_see_what_the_token_allows(make: Make, user: uuid.UUID) -> None:
    grants = {
        "own": Grant(subject="ann", scopes=frozenset({"read"}), user_id=user),
        "all": Grant(subject="bob", scopes=frozenset({"read", "publish", "all-users"})),
        "none": Grant(subject="eve", scopes=frozenset(), user_id=user),
    }

    async def authorize(token: str | None, scope: object) -> Grant:
        if token not in grants:
            raise Unauthorized("A token is needed.")
        return grants[token]

    async with served(make(authorize=authorize)) as place:

        async def statuses(token: str) -> list[int]:
            headers = {"Authorization": f"Bearer {token}"}
            paths = ("/users", "/counts", f"/counts/{uuid.uuid4()}", f"/counts/{user}", "/whoami")
            return [(await get(place, path, headers)).status for path in paths]

        assert await statuses("all") == [200] * 5
        assert await statuses("own") == [403, 403, 403, 200, 200]
        assert await statuses("none") == [403, 403, 403, 403, 200]
        assert await statuses("forged") == [401] * 5
        [own] = (await get(place, "/whoami", {"Authorization": "Bearer own"})).lines
        assert own == {
            "subject": "ann",
            "scopes": ["read"],
            "all_users": False,
            "user_id": str(user),
            "expires_at": None,
        }


class Locked:
    """A table that nobody can read while the block lasts."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+asyncpg", "")

    async def __aenter__(self) -> Self:
        self._locking = await asyncpg.connect(self._url)
        # Within a transaction pg_stat_activity stays as it was when it was first looked at.
        self._looking = await asyncpg.connect(self._url)
        await self._locking.execute("BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._locking.close()
        await self._looking.close()

    async def somebody_waits(self, expected: bool) -> None:
        """Wait until somebody does to whom `/users` is to be answered, or nobody any more."""
        waiting = (
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'active' AND query LIKE '%GROUP BY user_id%' AND pid <> pg_backend_pid()"
        )
        async with asyncio.timeout(PATIENCE):
            while await self._looking.fetchval(waiting) is not expected:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_what_takes_too_long_is_given_up_in_the_database_too(
    make: Make, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More may wait than are worked out at a time; afterwards there is room again."""
    monkeypatch.setattr(lookups, "LONGEST", 0.5)
    async with served(make(database_url=postgres_url)) as place:
        async with Locked(postgres_url) as table:
            answers = await asyncio.gather(*(get(place, "/users") for _ in range(5)))
            assert {answer.status for answer in answers} == {503}
            assert {answer.lines[0]["code"] for answer in answers} == {"too_slow"}
            await table.somebody_waits(False)
        monkeypatch.setattr(lookups, "LONGEST", 20.0)
        assert (await get(place, "/users")).status == 200


async def test_who_waits_for_an_answer_in_a_drain_is_told_to_ask_again(
    make: Make, postgres_url: str
) -> None:
    app = make(database_url=postgres_url)
    async with served(app) as place, Locked(postgres_url) as table:
        asking = asyncio.create_task(get(place, "/users"))
        await table.somebody_waits(True)
        await app.drain(0)
        answer = await asking
    [error] = answer.lines
    assert (answer.status, error["code"], error["temporary"]) == (503, "unavailable", True)
