"""The page in a real browser, beside real servers: what a person sees of entries and outages."""

import asyncio
import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, expect

from lykke_cli.web import Grant, Unauthorized, make_app
from tests.bridges import served
from tests.browser.recording import Recorder, recording
from tests.browser.viewer import Viewer, in_browser, viewing
from tests.servers import RedisServer, free_port
from tests.serving import TOKEN, TOKENS, Serving

pytestmark = in_browser
READ = frozenset({"read"})
QUICK = ("--reconcile", "1s", "--health-interval", "500ms")


async def test_entries_appear_as_they_are_recorded_and_the_token_is_sent_in_no_address(
    bridge: Serving, recorder: Recorder, viewer: Viewer
) -> None:
    await recorder.record(3)
    await viewer.open(bridge.url, token=TOKEN)
    await viewer.becomes("exact")
    await viewer.sees(recorder.ids)
    [new] = await recorder.record(activity_type="MESSAGE_SENT", meta={"to": "Bea"})
    await expect(viewer.row(new)).to_contain_text("MESSAGE_SENT")
    await expect(viewer.row(new)).to_contain_text("Bea")
    await viewer.sees(recorder.ids)
    assert TOKEN not in viewer.page.url
    assert viewer.addresses and not [each for each in viewer.addresses if TOKEN in each]
    assert all(re.match(rf"(http|ws)://{bridge.address.host}/", each) for each in viewer.addresses)


async def test_what_redis_lost_is_recovered_and_the_outage_is_told(
    own_redis: RedisServer, postgres_url: str, viewer: Viewer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "lykke_cli")  # broadcasts fail, as they should
    env = TOKENS | {"REDIS_URL": own_redis.url, "DATABASE_URL": postgres_url}
    with Serving(*QUICK, env=env) as bridge:
        async with recording(env) as recorder:
            await viewer.open(bridge.url, token=TOKEN)
            await viewer.becomes("exact")
            await recorder.record(5)
            await viewer.sees(recorder.ids)
            own_redis.kill()
            await viewer.becomes("recovering", "connecting")
            await recorder.record(5)
            own_redis.start()
            await viewer.becomes("exact")
            await recorder.record(5)
            await viewer.sees(recorder.ids)
            rule = viewer.page.locator("[data-rule=outage]")
            await expect(rule).to_contain_text(
                re.compile(r"from \d\d:.* to .*: 5 entries recovered")
            )


async def test_a_bridge_that_is_killed_is_come_back_to_with_nothing_lost_or_repeated(
    env: dict[str, str], recorder: Recorder, viewer: Viewer
) -> None:
    with Serving("--port", free_port(), *QUICK, env=env) as bridge:
        await viewer.open(bridge.url, token=TOKEN)
        await viewer.becomes("exact")
        await recorder.record(5)
        await viewer.sees(recorder.ids)
        await asyncio.to_thread(bridge.kill)
        await viewer.becomes("connecting")
        await recorder.record(5)
        await asyncio.to_thread(bridge.start)
        await viewer.becomes("exact")
        await recorder.record(5)
        await viewer.sees(recorder.ids)
        await expect(viewer.page.locator("[data-rule=outage]")).to_contain_text("recovered")


async def test_a_link_with_a_token_is_followed_in_a_tab_that_asks_for_one(
    bridge: Serving, viewer: Viewer
) -> None:
    await viewer.open(bridge.url)
    await expect(viewer.page.get_by_role("dialog")).to_contain_text("A token is needed")
    await viewer.open(bridge.url, token=TOKEN)
    await viewer.becomes("exact")
    await expect(viewer.page.get_by_role("dialog")).to_have_count(0)
    assert TOKEN not in viewer.page.url


async def test_a_token_that_is_refused_or_expires_is_asked_for(
    env: dict[str, str], recorder: Recorder, viewer: Viewer
) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=5)
    grants = {
        "short": Grant(subject="ann", scopes=READ, user_id=recorder.user, expires_at=ends),
        "long": Grant(subject="ann", scopes=READ, user_id=recorder.user),
    }

    async def authorize(token: str | None, scope: object) -> Grant:
        grant = grants.get(token or "")
        if grant is None:
            raise Unauthorized("The token is not known.")
        if grant.seconds_left() == 0:
            raise Unauthorized("The token has expired.", code="token_expired")
        return grant

    app = make_app(
        redis_url=env["REDIS_URL"], database_url=env["DATABASE_URL"], authorize=authorize, page=True
    )
    async with served(app) as place:
        dialog = viewer.page.get_by_role("dialog")

        await recorder.record(2)
        await viewer.open(f"http://{place}", token="forged")
        await expect(dialog).to_contain_text("The token is not known.")
        await viewer.give("short")
        await expect(dialog).to_contain_text("expired")
        await recorder.record(2)
        await viewer.give("long")
        await viewer.becomes("exact")
        await viewer.sees(recorder.ids)
        await expect(viewer.button("Send")).to_have_count(0)
        await expect(viewer.button(str(recorder.user)[:8])).to_be_disabled()


async def test_whoever_scrolls_up_reads_on_undisturbed_to_the_beginning(
    bridge: Serving, recorder: Recorder, browser: Browser
) -> None:
    begin = datetime(2026, 1, 31, 12, tzinfo=UTC)
    first, *_ = await recorder.insert(2_000, begin)
    async with viewing(browser, viewport={"width": 1280, "height": 700}) as viewer:
        await viewer.open(bridge.url, token=TOKEN)
        await viewer.becomes("exact")
        await expect(viewer.row(recorder.ids[-1])).to_be_in_viewport()
        await viewer.page.locator("#grid").hover()
        await viewer.page.mouse.wheel(0, -2_000)
        await expect(viewer.row(recorder.ids[-1])).not_to_be_in_viewport()
        new = await recorder.record(7)
        await expect(viewer.page.locator("#new")).to_contain_text("7 new")
        await expect(viewer.row(new[-1])).to_have_count(0)
        await viewer.page.keyboard.press("Home")
        await expect(viewer.row(first)).to_be_in_viewport()
        assert await viewer.page.locator("*").count() < 1_500
        await viewer.page.keyboard.press("End")
        await expect(viewer.row(new[-1])).to_be_in_viewport()
        await expect(viewer.page.locator("#new")).to_have_count(0)
