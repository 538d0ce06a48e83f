"""A backfill of a table that is too large to be read at once."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from lykke_cli.application.backfill import catch_up
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.application.merge import Checkpoint, Print, Save
from lykke_cli.application.messages import Entry
from lykke_cli.infrastructure.postgresql import changes
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.databases import page_by_page
from tests.tables import LONG_AGO, Table, empty_table

EVERYBODY = Selection(user_ids=None)
KILLS = 20

pytestmark = pytest.mark.timeout(300)  # it is read page by page


@pytest.fixture
async def table(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Table]:
    page_by_page(monkeypatch)
    monkeypatch.setattr(changes, "LONGEST", 0.0)
    async with empty_table(postgres_url) as table:
        yield table


class Run:
    """One after the other goes on from the place of the one before it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.place: Checkpoint
        self.printed = Counter[str]()

    async def begin(self) -> None:
        async with PostgresHistory(self._url) as history:
            [begun] = [chunk async for chunk in history.begin(EVERYBODY)]
        self.place = Checkpoint(begun.cursor, {}, None)

    async def until_saved(self, times: int | None = None) -> int:
        """Killed after so many savings, or to its end; returns how many there were."""
        saved = 0
        async with PostgresHistory(self._url, chunk_rows=1) as history:
            reading = catch_up(history, None, Filters(), resume=self.place, since=None)
            async for event in reading:
                match event:
                    case Print(arrivals):
                        rows = [a.message for a in arrivals if isinstance(a.message, Entry)]
                        self.printed.update(row.id for row in rows)
                    case Save(checkpoint):
                        self.place = checkpoint
                        saved += 1
                        if saved == times:
                            break
            await reading.aclose()
        return saved


async def test_it_is_read_in_portions_each_of_which_leaves_a_place(
    table: Table, postgres_reader_url: str
) -> None:
    await table.fill()
    run = Run(postgres_reader_url)
    await run.begin()
    written = [await table.write(age=n * LONG_AGO) for n in range(3)]
    written.append(await table.write_at_the_beginning())
    assert await run.until_saved() > await table.pages() > 10
    assert run.printed == dict.fromkeys(written, 1)


async def test_one_that_is_killed_again_and_again_goes_on_where_it_was(
    table: Table, postgres_reader_url: str
) -> None:
    await table.fill()
    run = Run(postgres_reader_url)
    await run.begin()
    written = [await table.write(age=n * LONG_AGO) for n in range(5)]
    for kill in range(KILLS):
        await run.until_saved(1 + kill % 3)
    await run.until_saved()
    assert run.printed == dict.fromkeys(written, 1)


async def test_what_was_committed_when_it_began_is_printed_though_portions_had_begun_before(
    table: Table, postgres_reader_url: str
) -> None:
    await table.fill()
    run = Run(postgres_reader_url)
    await run.begin()
    await run.until_saved(5)
    written = [await table.write_at_the_beginning()]  # where that run has looked already
    await run.until_saved()
    assert run.printed == dict.fromkeys(written, 1)
