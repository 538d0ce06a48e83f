"""The page is for anyone: keyboard alone, screen reader, light and dark, small and large."""

from datetime import UTC, datetime
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.async_api import Browser, expect

from tests.browser.recording import Recorder
from tests.browser.viewer import Viewer, in_browser, viewing
from tests.serving import TOKEN, Serving

pytestmark = in_browser
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


async def assert_accessible(viewer: Viewer) -> None:
    """As far as axe can tell."""
    found = await viewer.page.evaluate("() => axe.run()")
    wrong = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]
    assert wrong == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 320), ("dark", 1280)])
async def test_axe_finds_nothing(
    bridge: Serving, recorder: Recorder, browser: Browser, scheme: str, width: int
) -> None:
    await recorder.record(30, activity_type="MESSAGE_SENT", meta={"to": "Bea"})
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    async with viewing(browser, **options, reduced_motion="reduce") as viewer:
        page = viewer.page
        await page.add_init_script(path=AXE)
        await viewer.open(bridge.url)
        await expect(page.get_by_role("dialog")).to_contain_text("A token is needed")
        await assert_accessible(viewer)
        await viewer.give(TOKEN)
        await viewer.becomes("exact")
        await expect(viewer.row(recorder.ids[-1])).to_be_visible()
        await assert_accessible(viewer)
        for key, selector in (("/", "#finder"), *((key, "dialog") for key in "use?")):
            await page.keyboard.press(key)
            await expect(page.locator(selector)).to_be_visible()
            await assert_accessible(viewer)
            await page.keyboard.press("Escape")
            await expect(page.locator(selector)).to_have_count(0)
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Enter")
        await expect(page.locator("#panel")).to_be_visible()
        await assert_accessible(viewer)
        wider = "({ scrollWidth, clientWidth }) => scrollWidth > clientWidth"
        assert not await page.evaluate(f"() => ({wider})(document.documentElement)")


async def test_all_is_done_by_keys_and_told_to_a_screen_reader(
    bridge: Serving, recorder: Recorder, viewer: Viewer
) -> None:
    await recorder.insert(3, datetime(2026, 1, 31, 12, tzinfo=UTC))
    await viewer.open(bridge.url, token=TOKEN)
    await viewer.sees(recorder.ids)
    page = viewer.page
    grid = page.get_by_role("grid", name="Entries")
    await expect(grid).to_be_focused()
    await expect(grid).to_have_attribute("aria-rowcount", "5")  # the head, the day, the entries
    await expect(page.get_by_role("status").first).not_to_be_empty()
    await page.keyboard.press("k")
    await expect(viewer.row(recorder.ids[2])).to_have_attribute("aria-selected", "true")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    panel = page.get_by_role("complementary", name="Entry")
    await expect(panel).to_contain_text(recorder.ids[1])
    await expect(panel.get_by_role("heading", name="TASK_COMPLETED")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(panel).to_be_hidden()
    await expect(grid).to_be_focused()


async def test_an_entry_is_acknowledged_and_a_message_sent_to_whoever_looks(
    bridge: Serving, recorder: Recorder, viewer: Viewer, browser: Browser
) -> None:
    [id] = await recorder.record()
    async with viewing(browser) as other:
        for each in (viewer, other):
            await each.open(bridge.url, token=TOKEN, view=f"user={recorder.user}")
            await each.becomes("exact")
            await each.row(id).click()
        await viewer.button("Acknowledge").click()
        await expect(other.page.locator("#panel")).to_contain_text("Acknowledged by operator.")
        await viewer.page.keyboard.press("Escape")
        await viewer.page.keyboard.press("s")
        await viewer.page.get_by_label("Text").fill("is it you?")
        await viewer.page.get_by_role("dialog").get_by_role("button", name="Send").click()
        await expect(other.page.locator("#grid")).to_contain_text("is it you?")
