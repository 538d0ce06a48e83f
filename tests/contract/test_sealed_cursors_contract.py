"""A cursor that was sealed, and opened by another process, goes on where it stood."""

import os
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryProtocol,
    Selection,
)
from lykke_cli.application.merge import Checkpoint
from lykke_cli.bootstrap import make_history
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.postgresql import cursor as postgresql
from lykke_cli.infrastructure.sealed_cursors import SealedCursors
from lykke_cli.infrastructure.sqlite import cursor as sqlite
from tests.builders import entity, insert
from tests.contract.conftest import Urls

KEY = os.urandom(32)
USER = uuid.uuid4()
SELECTION = Selection(user_ids={USER})


@pytest.fixture
async def history(urls: Urls) -> AsyncIterator[HistoryProtocol]:
    async with make_history(Settings(database_url=urls.reader)) as history:
        yield history


async def record(urls: Urls, count: int, *, age: timedelta = timedelta()) -> set[str]:
    entities = [entity(USER, occurred_at=datetime.now(UTC) - age) for _ in range(count)]
    for one in entities:
        await insert(urls.owner, [one])
    return {str(one.id) for one in entities}


async def begin(history: HistoryProtocol) -> Cursor:
    return [chunk async for chunk in history.begin(SELECTION)][-1].cursor


async def changes(history: HistoryProtocol, cursor: Cursor) -> list[HistoryChunk]:
    return [chunk async for chunk in history.changes(SELECTION, cursor)]


def ids(chunks: list[HistoryChunk]) -> list[str]:
    return sorted(row.id for chunk in chunks for row in chunk.rows)


def carried(cursor: Cursor, user: UUID = USER) -> Cursor:
    """The cursor as another process has it."""
    sealed = SealedCursors([KEY]).seal(user, Checkpoint(cursor, {}, None))
    opened = SealedCursors([KEY]).open(user, sealed).cursor
    assert opened is not None
    return opened


async def test_what_was_committed_since_comes_once(urls: Urls, history: HistoryProtocol) -> None:
    await record(urls, 3)
    cursor = carried(await begin(history))
    for age in (timedelta(), timedelta(days=3)):
        new = await record(urls, 20, age=age)
        chunks = await changes(history, cursor)
        assert ids(chunks) == sorted(new)
        assert all(chunk.exact for chunk in chunks)
        cursor = carried(chunks[-1].cursor)
    assert ids(await changes(history, cursor)) == []


async def test_each_chunk_of_a_read_can_be_gone_on_from(urls: Urls) -> None:
    """As a reader is cut off in the middle of it."""
    async with make_history(Settings(database_url=urls.reader)) as history:
        history._chunk_rows = 4  # type: ignore[attr-defined]
        cursor = await begin(history)
        new = await record(urls, 19)
        found: list[str] = []
        while (chunk := await first_chunk(history, cursor)).rows:
            found += [row.id for row in chunk.rows]
            cursor = carried(chunk.cursor)
        assert sorted(found) == sorted(new)


async def first_chunk(history: HistoryProtocol, cursor: Cursor) -> HistoryChunk:
    reading = history.changes(SELECTION, cursor)
    try:
        return await anext(reading)
    finally:
        await reading.aclose()


async def test_what_goes_with_less_repeats_and_says_so_and_loses_nothing(
    urls: Urls, history: HistoryProtocol
) -> None:
    ancient = await record(urls, 1, age=timedelta(days=3))
    old = await record(urls, 9)
    first = await begin(history)
    known = await record(urls, 9)
    cursor = (await changes(history, first))[-1].cursor
    new = await record(urls, 4) | await record(urls, 4, age=timedelta(minutes=20))
    backend = sqlite if urls.owner.startswith("sqlite") else postgresql
    forms = list(backend.abridgements(cursor))
    assert len(forms) > 3
    for form in forms:
        chunks = await changes(history, carried(form))
        is_exact = "abridged" not in form.data
        assert {chunk.exact for chunk in chunks} == {is_exact}
        assert ("second time" in str(chunks[-1].notice)) is not is_exact
        assert new <= set(ids(chunks)) <= new | known | old
        assert len(ids(chunks)) == len(set(ids(chunks)))
        if is_exact:
            assert set(ids(chunks)) == new
        assert ancient.isdisjoint(ids(chunks))
        [after] = await changes(history, carried(chunks[-1].cursor))
        assert (after.rows, after.exact) == ((), True)
