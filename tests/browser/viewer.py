"""A person who looks at the page of a bridge, in a real browser."""

import os
import re
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Download, Error, Locator, Page, expect

from tests.node_client import NODE

CHROMIUM = shutil.which("chromium")
# Playwright's own node needs a library (libatomic) that a fresh machine has not.
os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(NODE))
in_browser = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.asyncio(loop_scope="session"),  # the browser's
    pytest.mark.long,
    pytest.mark.timeout(240),
]
"""What every test in a browser is marked with."""
PATIENCE = 30_000  # ms for anything to be seen
TALL = {"width": 1280, "height": 4000}  # pixels: all rows of a test are in sight
_AGAINST_POLICY = re.compile("Content Security Policy|Trusted|violates", re.IGNORECASE)


class Viewer:
    """One tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        """What no page may do: errors of its scripts, and what its policy forbade."""
        self.addresses: list[str] = []
        """What was asked for."""
        page.on("pageerror", self._failed)
        page.on("console", self._said)
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self.addresses.append(request.url))
        page.on("websocket", lambda socket: self.addresses.append(socket.url))

    async def open(self, url: str, *, token: str | None = None, view: str = "") -> None:
        """Go to the page of the bridge at `url`, as a link with a token leads there."""
        fragment = "&".join(filter(None, (token and f"token={token}", view)))
        await self.page.goto(f"{url}/#{fragment}" if fragment else f"{url}/")

    async def give(self, token: str) -> None:
        """Type a token where one is asked for."""
        dialog = self.page.get_by_role("dialog")
        await dialog.get_by_label("Token").fill(token)
        await dialog.get_by_role("button", name="Go on").click()

    def row(self, id: object) -> Locator:
        return self.page.locator(f'[role=row][data-id="{id}"]')

    @property
    def rows(self) -> Locator:
        """The entries."""
        return self.page.locator("[role=row][data-id]")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    async def becomes(self, *states: str) -> None:
        """Wait until the badge says one of these."""
        pattern = re.compile(rf"^({'|'.join(states)})$")
        await expect(self.page.locator("#badge")).to_have_attribute("data-state", pattern)

    async def sees(self, ids: Sequence[str]) -> None:
        """Wait until so many entries are in sight: exactly these, in order."""
        await expect(self.rows).to_have_count(len(ids))
        found: list[str] = await self.rows.evaluate_all("rows => rows.map(row => row.dataset.id)")
        assert found == list(ids)

    async def kept(self, form: str) -> str:
        """The file that Keep makes."""
        await self.button("Keep").first.click()
        dialog = self.page.get_by_role("dialog")
        await dialog.get_by_label(form).check()
        async with self.page.expect_download() as waiting:
            await dialog.get_by_role("button", name="Keep").click()
        download: Download = await waiting.value
        text = (await download.path()).read_text("utf-8")
        await self.page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        return text

    def _failed(self, error: Error) -> None:
        self.wrong.append(f"{error.name}: {error.message}")

    def _said(self, message: ConsoleMessage) -> None:
        if _AGAINST_POLICY.search(message.text):
            self.wrong.append(message.text)


@asynccontextmanager
async def viewing(browser: Browser, **options: Any) -> AsyncGenerator[Viewer]:
    """A tab of its own, which shares nothing with others; in the end nothing was wrong in it."""
    context = await browser.new_context(**{"viewport": TALL} | options)
    try:
        page = await context.new_page()
        page.set_default_timeout(PATIENCE)
        viewer = Viewer(page)
        yield viewer
        assert viewer.wrong == []
    finally:
        await context.close()
