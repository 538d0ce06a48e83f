"""History over HTTP: every entry that is asked for, and a connection that is given back."""

import asyncio
import csv
import io
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from lykke_cli.application.csv_rows import CSV_COLUMNS
from lykke_cli.web import Grant, Limits, Unauthorized, connection, history, make_app
from tests.bridges import commit, following, get, requested, served
from tests.builders import entity, insert
from tests.integration.web.conftest import Make
from tests.integration.web.test_connection import deaf

NOW = datetime.now(UTC)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SINCE, UNTIL = "2026-01-31T12:00:01Z", "2026-01-31T12:00:02Z"


async def test_what_is_asked_for_comes_line_by_line(
    make: Make, database_url: str, user: uuid.UUID
) -> None:
    days = [
        (await commit(database_url, user, 1, occurred_at=NOW - timedelta(days=day)))[0]
        for day in (5, 4, 3, 2, 1)
    ]
    await commit(database_url, uuid.uuid4(), 1)
    [sent] = await commit(
        database_url, user, 1, activity_type="MESSAGE_SENT", occurred_at=NOW, meta={"n": 7}
    )
    async with served(make(database_url=database_url)) as place:

        async def ids(query: str) -> list[str]:
            answer = await get(place, f"/history/{user}?{query}")
            assert answer.status == 200, answer.body
            assert answer.headers["content-type"] == "application/x-ndjson"
            assert answer.is_whole
            return [line["id"] for line in answer.lines]

        assert await ids("") == [*days, sent]
        assert await ids("since=84h&until=36h") == days[2:4]
        assert await ids("limit=2") == [days[-1], sent]
        assert await ids("first=2") == days[:2]
        assert await ids("limit=2&activity_type=TASK_*") == days[-2:]
        assert await ids("first=1&query=meta.n") == [sent]
        assert await ids("grep=MESSAGE") == [sent]
        assert await ids("since=1m&exclude=MESSAGE_SENT") == []


async def test_with_a_cursor_comes_what_was_committed_since_and_the_next_cursor(
    make: Make, database_url: str, user: uuid.UUID
) -> None:
    async with served(make(database_url=database_url)) as place:
        async with following(place, user) as client:
            await client.hear_until("caught_up")
        missed = await commit(database_url, user, 3, occurred_at=NOW - timedelta(days=2))
        first = (await get(place, f"/history/{user}?cursor={client.cursor}")).lines
        assert sorted(line["id"] for line in first[:-1]) == sorted(missed)
        assert set(first[-1]) == {"type", "cursor"} and first[-1]["type"] == "caught_up"
        later = await commit(database_url, user, 1)
        second = (await get(place, f"/history/{user}?cursor={first[-1]['cursor']}")).lines
        assert [line.get("id") for line in second] == [*later, None]
        async with following(place, user, cursor=second[-1]["cursor"]) as client:
            await client.hear_until("caught_up")
            assert client.ids == []


async def test_older_pages_lead_to_the_beginning_the_newest_first(
    make: Make, database_url: str, user: uuid.UUID
) -> None:
    """Also between entries of one moment, with filters of either kind."""
    for n in range(10):
        moment = NOON + timedelta(seconds=n // 3)
        await commit(database_url, user, 1, occurred_at=moment, meta={"n": n % 2})
    async with served(make(database_url=database_url)) as place:
        whole = (await get(place, f"/history/{user}")).lines[::-1]
        for filters in ("", "&activity_type=TASK_*", "&query=meta.n==`1`"):
            asked = f"/history/{user}?order=desc&limit=2{filters}"
            page = (await get(place, asked)).lines
            found = page.copy()
            while page:
                before = f"{page[-1]['occurred_at']},{page[-1]['id']}"
                page = (await get(place, f"{asked}&before={before}")).lines
                found += page
            assert found == [e for e in whole if "query" not in filters or e["meta"]["n"]]
        answer = await get(place, f"/history/{user}?order=desc&since={SINCE}&until={UNTIL}")
        assert answer.lines == whole[4:7]


async def test_as_csv_it_is_what_backfill_writes_without_formulas(
    make: Make, database_url: str, user: uuid.UUID
) -> None:
    hostile = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", 'a,"b"', "plain"]
    for text in hostile:
        await commit(database_url, user, 1, activity_type=text, entity_type=f"{text}\n")
    async with served(make(database_url=database_url)) as place:
        answer = await get(place, f"/history/{user}?format=csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        head, *rows = csv.reader(io.StringIO(answer.body.decode(), newline=""))
        assert head == [*CSV_COLUMNS]
        assert [row[2] for row in rows] == [*(f"'{text}" for text in hostile[:5]), *hostile[5:]]
        assert not [cell for row in rows for cell in row if cell.startswith(tuple("=+-@\t\r\n"))]
        newest = await get(place, f"/history/{user}?format=csv&order=desc&limit=1")
        assert newest.body.decode().startswith(",".join(CSV_COLUMNS) + "\n")
        assert ",plain," in newest.body.decode()
        nothing = await get(place, f"/history/{uuid.uuid4()}?format=csv")
        assert nothing.body.decode() == ",".join(CSV_COLUMNS) + "\n"


async def test_without_a_user_it_is_every_users(make: Make, database_url: str) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    async with served(make(database_url=database_url)) as place:
        async with following(place, None) as client:
            await client.hear_until("caught_up")
        found = [*await commit(database_url, one, 2), *await commit(database_url, other, 1)]
        lines = (await get(place, "/history")).lines
        assert [(line["id"], line["user_id"]) for line in lines] == [
            (id, str(user)) for id, user in zip(found, (one, one, other), strict=True)
        ]
        since = (await get(place, f"/history?cursor={client.cursor}")).lines
        assert {line.get("id") for line in since} == {*found, None}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("{user}?limit=0", "bad_request"),
        ("{user}?last=1", "bad_request"),
        ("{user}?cursor=forged", "cursor_refused"),
        ("{user}?token=x", "bad_request"),
        ("me", "bad_request"),
    ],
)
async def test_what_makes_no_sense_is_a_400_that_names_it(
    place: str, user: uuid.UUID, path: str, code: str
) -> None:
    answer = await get(place, f"/history/{path.format(user=user)}")
    [error] = answer.lines
    assert (answer.status, error["type"], error["code"]) == (400, "error", code)
    assert error["message"].endswith(".")


async def test_it_is_only_for_who_may_read_the_user(make: Make, user: uuid.UUID) -> None:
    async def authorize(token: str | None, scope: object) -> Grant:
        if token is None:
            raise Unauthorized("A token is needed.")
        return Grant(subject=token, scopes=frozenset({"read"}), user_id=user)

    async with served(make(authorize=authorize)) as place:
        refused = await get(place, f"/history/{user}")
        assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"
        bearer = {"Authorization": "Bearer ann"}
        assert (await get(place, f"/history/{user}", bearer)).status == 200
        assert (await get(place, f"/history/{uuid.uuid4()}", bearer)).status == 403


async def test_a_database_that_is_away_is_a_503(make: Make, user: uuid.UUID) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    async with served(make(database_url=url)) as place:
        answer = await get(place, f"/history/{user}")
        assert answer.status == 503 and answer.lines[0]["temporary"]


async def test_a_client_that_has_gone_or_takes_nothing_gives_its_connection_back(
    redis_url: str, postgres_url: str, user: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FAREWELL", 0.2)
    app = make_app(
        redis_url=redis_url,
        database_url=postgres_url,
        database_connections=2,  # one of them may be lent
        limits=Limits(stall=0.5),
    )
    small = await commit(postgres_url, user, 1)
    await commit(postgres_url, user, 60, meta={"x": "y" * 200_000})
    path = f"/history/{user}"
    async with served(app) as place:
        async with requested(place, path) as http:
            await http.part()
        assert len((await get(place, f"{path}?grep=nothing")).lines) == 0
        with deaf(place, path), deaf(place, path):
            answer = await get(place, f"{path}?first=1")
            assert [line["id"] for line in answer.lines] == small


async def test_what_is_not_whole_does_not_end_as_if_it_were(
    make: Make, sqlite_url: str, user: uuid.UUID
) -> None:
    await commit(sqlite_url, user, 60, meta={"x": "y" * 200_000})
    app = make()
    async with served(app) as place, requested(place, f"/history/{user}", limit=1024) as http:
        await http.part()
        draining = asyncio.create_task(app.drain(0))
        body = await http.rest()
        assert not http.is_whole and b'"code":"unavailable"' in body.splitlines()[-1]
        await draining


@pytest.mark.parametrize(
    "asked",
    ["?", "?limit=4000", "?first=4000", "?grep=y", "?cursor=", "?order=desc&limit=4000&grep=y"],
)
async def test_a_client_that_does_not_keep_up_gets_everything_once_in_turns(
    make: Make,
    database_url: str,
    user: uuid.UUID,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "PATIENCE", 0.01)
    app = make(database_url=database_url, database_connections=2)
    async with served(app) as place:
        if asked.endswith("cursor="):
            async with following(place, user) as client:
                await client.hear_until("caught_up")
                asked += client.cursor or ""
        moments = [NOW - timedelta(hours=1) + timedelta(seconds=n // 3) for n in range(4000)]
        entities = [entity(user, occurred_at=at, meta={"x": "y" * 6000}) for at in moments]
        await insert(database_url, entities)
        lent = 0
        lend = app.state.hub.history

        def counted() -> object:
            nonlocal lent
            lent += 1
            return lend()

        monkeypatch.setattr(app.state.hub, "history", counted)
        body = b""
        async with requested(place, f"/history/{user}{asked}", limit=1024) as http:
            while part := await http.part():
                body += part
                await asyncio.sleep(0.2 / lent)  # slow at first
    assert http.is_whole
    found = [line["id"] for line in map(json.loads, body.splitlines()) if "id" in line]
    assert sorted(found) == sorted(str(each.id) for each in entities)
    assert lent > 1
