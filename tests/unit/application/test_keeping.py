"""A keeper's own tasks, at the end of a run."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lykke_cli.application import keeping
from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.keeping import PlaceKeeper
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.place import Place


def a_keeper(opening: Callable[[], Awaitable[None]]) -> PlaceKeeper:
    keeper = PlaceKeeper(Place(), lambda _: None, opening=opening)
    keeper.reached(Checkpoint(Cursor({}), {}, None))
    return keeper


async def test_when_a_run_has_ended_nothing_of_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "OPENING_WAIT", 0.01)
    before, has_begun, is_over = asyncio.all_tasks(), asyncio.Event(), False

    async def opening() -> None:
        nonlocal is_over
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):  # as a connection is given back
                await asyncio.sleep(0)
            is_over = True

    async with a_keeper(opening):
        await has_begun.wait()
    assert is_over
    assert asyncio.all_tasks() == before


async def test_what_heeds_no_cancellation_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "OPENING_WAIT", 0.01)
    monkeypatch.setattr(keeping, "END_WAIT", 0.01)
    has_begun, end = asyncio.Event(), asyncio.Event()

    async def opening() -> None:
        has_begun.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                pass

    async with asyncio.timeout(10), a_keeper(opening):
        await has_begun.wait()
    end.set()
