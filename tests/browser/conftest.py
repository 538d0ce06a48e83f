"""One browser for all tests of a process, and a tab for each."""

from collections.abc import AsyncGenerator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.recording import Recorder, recording
from tests.browser.viewer import CHROMIUM, PATIENCE, Viewer, viewing
from tests.serving import TOKENS, Serving

expect.set_options(timeout=PATIENCE)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        # A container may have no way to make the sandbox; the pages are our own.
        yield await playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(browser: Browser) -> AsyncGenerator[Viewer]:
    async with viewing(browser) as viewer:
        yield viewer


@pytest.fixture
def env(redis_url: str, postgres_url: str) -> dict[str, str]:
    """Of a bridge on a shared Redis and a database of the test's own."""
    return TOKENS | {"REDIS_URL": redis_url, "DATABASE_URL": postgres_url}


@pytest_asyncio.fixture(loop_scope="session")
async def recorder(env: dict[str, str]) -> AsyncGenerator[Recorder]:
    async with recording(env) as recorder:
        yield recorder


@pytest.fixture
def bridge(env: dict[str, str]) -> Iterator[Serving]:
    with Serving(env=env) as bridge:
        yield bridge
