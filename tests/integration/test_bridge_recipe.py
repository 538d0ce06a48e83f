"""What the documentation shows of a bridge within one's own application."""

import uuid

from tests.bridges import commit, connected, get, served
from tests.recipes.bridge import SESSIONS, application


async def test_a_user_of_the_application_sees_their_own_entries_and_no_others(
    redis_url: str, sqlite_url: str
) -> None:
    user, cookie = uuid.uuid4(), {"Cookie": "session=abc"}
    SESSIONS["abc"] = user
    [id] = await commit(sqlite_url, user, 1)
    async with served(application(redis_url, sqlite_url)) as place:
        path = f"/audit/history/{user}"
        assert [line["id"] for line in (await get(place, path, cookie)).lines] == [id]
        assert (await get(place, path)).status == 401
        assert (await get(place, f"/audit/history/{uuid.uuid4()}", cookie)).status == 403
        async with connected(
            f"{place}/audit", user, "?last=1", additional_headers=cookie
        ) as client:
            assert await client.entries(1) == [id]
        async with connected(f"{place}/audit", user, "?last=1") as stranger:
            await stranger.say(type="token", token="x")
            assert await stranger.closed() == 4401
