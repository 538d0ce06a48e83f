"""Running to the end: what is said of what nobody waits for."""

import asyncio
import gc
import signal
import subprocess
import sys

import pytest

from lykke_cli.cli.exit_codes import Stopped
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


def test_a_signal_while_the_loop_is_made_ends_the_run_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            signal.raise_signal(signal.SIGTERM)
            return super().new_event_loop()

    has_begun = False

    async def begin() -> None:
        nonlocal has_begun
        has_begun = True

    policy = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Interrupted())
    try:
        with pytest.raises(Stopped) as stopped:
            run_async(begin())
    finally:
        asyncio.set_event_loop_policy(policy)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert not has_begun


def test_a_signal_while_the_loop_is_closed_comes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    close = asyncio.SelectorEventLoop.close

    def closing(loop: asyncio.SelectorEventLoop) -> None:
        close(loop)
        signal.raise_signal(signal.SIGTERM)

    async def done() -> str:
        return "done"

    monkeypatch.setattr(asyncio.SelectorEventLoop, "close", closing)
    assert run_async(done()) == "done"


def test_what_is_logged_in_detail_does_nothing_to_the_terminal() -> None:
    code = (
        "import logging; from lykke_cli.cli.runtime import log_in_detail; log_in_detail()\n"
        "try: raise ValueError('of \\x1b[2J')\n"
        "except ValueError: logging.getLogger('theirs').exception('from \\x1b[1m')\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=True
    ).stderr
    assert r"from \x1b[1m" in said and r"ValueError: of \x1b[2J" in said
    assert "\x1b" not in said and "Traceback" in said
