"""Finding entries on the page, and keeping them: the filters, the histogram, files."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from playwright.async_api import Request, Route, expect

from tests.browser.recording import Recorder
from tests.browser.viewer import PATIENCE, Viewer, in_browser
from tests.serving import TOKEN, Serving

pytestmark = in_browser
MORNING = datetime(2026, 1, 31, 6, tzinfo=UTC)


async def test_filters_are_in_the_address_and_show_a_colleague_the_same(
    bridge: Serving, recorder: Recorder, viewer: Viewer
) -> None:
    wanted = await recorder.record(2, activity_type="TASK_COMPLETED", meta={"minutes": 40})
    await recorder.record(2, activity_type="TASK_COMPLETED", meta={"minutes": 4})
    await recorder.record(2, activity_type="MESSAGE_SENT", meta={"minutes": 40})
    await viewer.open(bridge.url, token=TOKEN)
    await viewer.sees(recorder.ids)
    await viewer.page.keyboard.press("/")
    await viewer.page.get_by_label("Types").fill("TASK_*")
    await viewer.page.get_by_label("JMESPath").fill("meta.minutes > `30`")
    await viewer.page.keyboard.press("Enter")
    await viewer.sees(wanted)
    await viewer.becomes("exact")
    wanted += await recorder.record(1, activity_type="TASK_PUNTED", meta={"minutes": 50})
    await recorder.record(1, activity_type="MESSAGE_SENT", meta={"minutes": 50})
    await viewer.sees(wanted)
    assert "activity_type=TASK_*" in viewer.page.url
    await viewer.page.reload()
    await viewer.sees(wanted)
    await viewer.open(bridge.url, view=viewer.page.url.partition("#")[2] + "&until=2000-01-01")
    await viewer.becomes("history")
    await viewer.sees([])


async def test_a_bar_of_the_histogram_is_a_range_of_time(
    bridge: Serving, recorder: Recorder, viewer: Viewer
) -> None:
    hour = datetime.now(UTC).replace(minute=10, second=0)  # in the midst of a bar
    early = await recorder.insert(3, hour - timedelta(hours=20))
    await recorder.insert(2, hour - timedelta(hours=2))
    await viewer.open(bridge.url, token=TOKEN)
    await viewer.sees(recorder.ids)
    await viewer.page.get_by_role("option", name="3 entries").click()
    await viewer.becomes("history")
    await viewer.sees(early)
    await viewer.button("All times").click()
    await viewer.sees(recorder.ids)


async def test_the_types_of_all_who_are_watched_are_suggested(
    bridge: Serving, recorder: Recorder, viewer: Viewer
) -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    view = f"user={recorder.user}"
    await recorder.insert(1, hour_ago, activity_type="SELDOM")
    recorder.user = uuid4()
    view += f"&user={recorder.user}"
    await recorder.insert(2, hour_ago, activity_type="OFTEN")
    await viewer.open(bridge.url, token=TOKEN, view=view)
    await expect(viewer.page.get_by_role("option", name="3 entries")).to_be_visible()
    await viewer.page.keyboard.press("/")
    suggested = viewer.page.locator("#types option")
    await expect(suggested).to_have_count(2)
    values = await suggested.evaluate_all("options => options.map(option => option.value)")
    assert values == ["OFTEN", "SELDOM"]


async def test_a_range_is_kept_whole_as_ndjson_and_as_csv_without_formulas(
    bridge: Serving, recorder: Recorder, viewer: Viewer
) -> None:
    await recorder.insert(3_000, MORNING, activity_type="=1+1")
    await viewer.open(bridge.url, token=TOKEN)
    await viewer.becomes("exact")
    lines = [json.loads(line) for line in (await viewer.kept("NDJSON")).splitlines()]
    assert [line["id"] for line in lines] == recorder.ids
    rows = list(csv.DictReader(io.StringIO(await viewer.kept("CSV"), newline="")))
    assert [row["id"] for row in rows] == recorder.ids
    assert {row["activity_type"] for row in rows} == {"'=1+1"}


async def test_a_search_for_users_that_is_typed_on_is_given_up_and_one_that_fails_tells_why(
    bridge: Serving, viewer: Viewer
) -> None:
    refusal = {"type": "error", "code": "too_slow", "message": "It took more than 20 seconds."}
    page, asked, given_up = viewer.page, asyncio.Event(), asyncio.Event()

    async def answer(route: Route) -> None:
        if "q=ab" in route.request.url:
            await route.fulfill(status=503, json=refusal)
        elif "q=a" in route.request.url:
            asked.set()  # and never answered
        else:
            await route.fallback()

    def failed(request: Request) -> None:
        if request.url.endswith("/users?q=a&limit=50"):
            given_up.set()

    await page.route("**/users*", answer)
    page.on("requestfailed", failed)
    await viewer.open(bridge.url, token=TOKEN)
    await viewer.becomes("exact")
    await page.keyboard.press("u")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("searchbox").fill("a")
    async with asyncio.timeout(PATIENCE / 1000):
        await asked.wait()
        await dialog.get_by_role("searchbox").fill("ab")
        await given_up.wait()
    await expect(dialog.get_by_role("status")).to_have_text(refusal["message"])
    await dialog.get_by_role("searchbox").fill("b")
    await expect(dialog.get_by_role("status")).to_have_text("Nobody.")
