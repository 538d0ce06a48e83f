"""How large the slices are of a table that is read page by page."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.postgresql.slices import FIRST_PAGES, Slices
from lykke_cli.infrastructure.postgresql.sweep import Sweep


class Server:
    """A connection to one that does not end a slice in time, and snapshots on it."""

    def __init__(self) -> None:
        self.places: list[object] = []

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        self.places.append(arguments[7])
        raise TimeoutError


async def test_after_a_slice_that_took_too_long_the_next_one_is_smaller() -> None:
    server, slices = cast(Any, Server()), Slices()
    sweep = Sweep(datetime.now(UTC), 1, Runs(), {1: 1}, pages=10**6)
    for _ in range(9):
        with pytest.raises(TimeoutError):
            await slices.look(server, Selection(user_ids=None), sweep, (), server)
    pages = [FIRST_PAGES >> n for n in range(8)]
    assert server.places == [f"({number},0)" for number in (*pages, 1)]
