"""What docs/library.md shows an application to do whose effect must happen exactly once."""

import asyncio
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

import lykke_cli
from lykke_cli import AuditLogEntity, MemoryPubSubGateway
from tests.builders import entity, insert, wire
from tests.cli_process import environment
from tests.programs import program
from tests.recipes.billing import bill
from tests.servers import RedisServer, run_apart, wait_until

USER = uuid.uuid4()
ENTRIES = 12


class Books:
    """The application's own database."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "books.db"
        with self.opened() as database:
            database.execute("PRAGMA journal_mode = WAL")  # read here while it is written
            database.execute("CREATE TABLE invoices (entry_id TEXT)")

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            yield database

    def invoices(self) -> list[str]:
        with self.opened() as database:
            return [id for (id,) in database.execute("SELECT entry_id FROM invoices")]

    def has_place(self) -> bool:
        with self.opened() as database:
            tables = "SELECT 1 FROM sqlite_master WHERE name = 'places'"
            return bool(
                database.execute(tables).fetchone()
                and database.execute("SELECT 1 FROM places").fetchone()
            )


@contextmanager
def billing(
    books: Books, env: dict[str, str], *, loop: str = "asyncio", killed_before: int = 0
) -> Iterator["subprocess.Popen[bytes]"]:
    words = [*program("bills"), str(USER), str(books.path), loop, str(killed_before)]
    with subprocess.Popen(words, env=environment(env)) as process:
        try:
            yield process
        finally:
            process.kill()  # -9


def ids(entities: Iterable[AuditLogEntity]) -> list[str]:
    return sorted(str(each.id) for each in entities)


def test_however_often_the_process_is_killed_each_entry_has_one_invoice(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Before every step there is: of the start, and of a transaction."""
    books, committed = Books(tmp_path), [entity(USER) for _ in range(ENTRIES)]
    run_apart(lambda: insert(sqlite_url, committed))
    env = {"DATABASE_URL": sqlite_url}
    for step in range(1, 12):
        with billing(books, env, killed_before=step) as process:
            assert process.wait(20) == -9
    assert 0 < len(books.invoices()) < ENTRIES
    with billing(books, env):
        wait_until(lambda: len(books.invoices()) >= ENTRIES, "all invoices")
    assert sorted(books.invoices()) == ids(committed)


async def test_what_is_rolled_back_comes_again(sqlite_url: str, tmp_path: Path) -> None:
    books, committed = Books(tmp_path), [entity(USER) for _ in range(3)]
    await insert(sqlite_url, committed)

    class Database(sqlite3.Connection):
        """Fails once, after the entry was acknowledged."""

        left = 2  # transactions

        def __exit__(self, *exc_info: Any) -> Literal[False]:
            self.left -= 1
            if self.left == 0:
                super().__exit__(OSError, OSError(), None)
                raise OSError("the disk is full")
            return super().__exit__(*exc_info)

    with closing(sqlite3.connect(books.path, isolation_level=None, factory=Database)) as database:
        async with MemoryPubSubGateway() as gateway:

            async def run() -> None:
                await bill(USER, database, gateway=gateway, database_url=sqlite_url, last=3)

            with pytest.raises(OSError, match="full"):
                await run()
            assert len(books.invoices()) == 1
            again = asyncio.create_task(run())
            async with asyncio.timeout(20):
                while len(books.invoices()) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
    assert sorted(books.invoices()) == ids(committed)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_redis_and_the_process_are_killed_in_the_middle(
    loop: str,
    own_redis: RedisServer,
    postgres_url: str,
    tmp_path: Path,
) -> None:
    books, committed = Books(tmp_path), list[AuditLogEntity]()
    env = {"REDIS_URL": own_redis.url, "DATABASE_URL": postgres_url}

    def commit(number: int, *, live: bool) -> None:
        new = [entity(USER) for _ in range(number)]
        run_apart(lambda: insert(postgres_url, new))
        committed.extend(new)
        if live:
            with own_redis.client() as client:
                for each in new:
                    client.publish(f"auditlog:{USER}", wire(each))

    with billing(books, env, loop=loop):
        wait_until(books.has_place, "the place")
        commit(50, live=True)
        commit(5, live=False)
        wait_until(books.invoices, "the first invoice")
    commit(20, live=True)
    with billing(books, env, loop=loop):
        wait_until(lambda: len(books.invoices()) >= len(committed), "what came meanwhile")
        own_redis.kill()
        commit(20, live=False)
        own_redis.start()
        commit(20, live=True)
    with billing(books, env, loop=loop):
        wait_until(lambda: len(books.invoices()) >= len(committed), "all invoices")
        commit(1, live=False)
        wait_until(lambda: len(books.invoices()) >= len(committed), "the last one")
    assert sorted(books.invoices()) == ids(committed)


def test_the_docs_show_it_as_it_is() -> None:
    root = Path(lykke_cli.__file__).parents[1]
    recipe = (root / "tests/recipes/billing.py").read_text("utf-8")
    assert f"```python\n{recipe}```" in (root / "docs/library.md").read_text("utf-8")


def test_neither_typer_nor_rich_is_needed(sqlite_url: str) -> None:
    code = (
        "import asyncio, sys, uuid, lykke_cli\n"
        "sys.modules['typer'] = sys.modules['rich'] = None\n"
        "async def main():\n"
        "    async with lykke_cli.MemoryPubSubGateway() as gateway:\n"
        "        async with lykke_cli.follow(uuid.uuid4(), gateway=gateway, place='billing'):\n"
        "            print('following')\n"
        "asyncio.run(main())\n"
    )
    words = [sys.executable, "-c", code]
    folder = str(Path(lykke_cli.__file__).parents[1])
    env = environment({"DATABASE_URL": sqlite_url, "PYTHONPATH": folder})
    assert subprocess.run(words, env=env, capture_output=True, check=True).stdout == b"following\n"
