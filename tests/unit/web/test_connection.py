"""What a connection's works come to."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lykke_cli.web.connection import Connection, Gone, Restarting


async def nothing(message: Any = None) -> Any:
    pass


async def fail(error: Exception) -> None:
    raise error


@contextmanager
def nothing_is_logged() -> Iterator[None]:
    """Asyncio logs a failure that nobody asked for once its task is gone."""
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    yield
    gc.collect()
    assert not logged


async def test_of_works_that_fail_together_one_is_raised_and_none_is_left_to_be_logged() -> None:
    with nothing_is_logged():
        connection = Connection({}, nothing, nothing)
        with pytest.raises(Gone):
            await connection.run(fail(Gone()), fail(Gone()), fail(Gone()))


async def test_a_client_that_has_gone_hides_no_other_failure() -> None:
    for works in ((Gone(), ValueError()), (ValueError(), Gone())):
        connection = Connection({}, nothing, nothing)
        with pytest.raises(ValueError):
            await connection.run(*map(fail, works))


async def test_what_ends_it_from_outside_comes_first() -> None:
    with nothing_is_logged():
        connection = Connection({}, nothing, nothing)
        connection.stop(Restarting(10))
        with pytest.raises(Restarting):
            await connection.run(fail(Gone()))
