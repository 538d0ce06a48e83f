"""Running to the end: what is said of what nobody waits for."""

import asyncio
import gc

import pytest

from lykke_cli.cli.runtime import run_async


async def forget(error: Exception) -> None:
    """Leave a future behind whose error nobody looks at."""
    future = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    del future
    gc.collect()


@pytest.mark.parametrize(
    ("error", "is_told"), [(ConnectionError("given up"), False), (ValueError("a bug"), True)]
)
def test_an_attempt_to_connect_that_was_given_up_is_not_told_of(
    error: Exception, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run_async(forget(error))
    assert bool(caplog.records) == is_told
