"""The page in Chromium while entries come, beside a page that appends every line to a list.

Run by hand (`make bench-page`); starts its own servers. Both pages stand on `lykke.js`, and are
sent the same entries by the same bridge.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import asyncpg
from playwright.async_api import Browser, Page, Route, async_playwright, expect

from tests.benchmarks.measure import head, show
from tests.benchmarks.source import Source
from tests.browser.viewer import CHROMIUM
from tests.servers import PostgresServer, RedisServer
from tests.serving import TOKEN, TOKENS, Serving

OURS, APPENDS = "the page", "appends every line"
WINDOW = {"width": 1280, "height": 720}
LATE = 33  # ms: a frame that took longer was seen to stutter
PATIENCE = 60_000  # ms for the last entry to be seen
FEW = 10_000  # entries for the memory of both: what is appended costs more with each line
PORTION = 1_000  # entries that are committed at once where no rate is asked for
NUMBERS = count(0, 10_000_000)

# A frame is late by what is between two of them; a task of more than 50 ms tells of itself.
PROBE = """
    window.probe = { frames: [], tasks: [0], elements: 0 };
    new PerformanceObserver((list) => {
      for (const task of list.getEntries()) probe.tasks.push(task.duration);
    }).observe({ type: "longtask" });
    let before = performance.now();
    requestAnimationFrame(function next(now) {
      probe.frames.push(now - before);
      before = now;
      requestAnimationFrame(next);
    });
    setInterval(() => {
      probe.elements = Math.max(probe.elements, document.getElementsByTagName("*").length);
    }, 250);
"""
APPENDING = """<!doctype html><title>list</title>
<style>body { font: 13px monospace; } li { white-space: nowrap; overflow: hidden; }</style><ul></ul>
<script type="module">
  import { follow } from "./lykke.js";
  const list = document.querySelector("ul");
  const token = location.hash.replace("#token=", "");
  const onstate = (state) => (document.body.dataset.state = state);
  for await (const entry of follow({ token, last: 1, onstate })) {
    const line = document.createElement("li");
    line.dataset.id = entry.id;
    line.textContent = `${entry.occurred_at} ${entry.activity_type} ${JSON.stringify(entry.meta)}`;
    list.append(line);
    line.scrollIntoView();
  }
</script>
"""


class Bench:
    """The servers, and how much is asked of them."""

    def __init__(
        self, browser: Browser, redis: RedisServer, database: asyncpg.Connection, url: str
    ) -> None:
        self.browser, self.redis, self.database, self.url = browser, redis, database, url

    @asynccontextmanager
    async def looking(self, name: str) -> AsyncGenerator[Page]:
        """A tab in which the page follows."""
        page = await self.browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
        await page.add_init_script(PROBE)
        await page.route("**/appending", _appending)
        path = "/" if name == OURS else "/appending"
        await page.goto(f"{self.url}{path}#token={TOKEN}")
        state = page.locator("#badge[data-state=exact], body[data-state=live]")
        await expect(state).to_have_count(1, timeout=PATIENCE)
        try:
            yield page
        finally:
            await page.close()

    def source(self) -> Source:
        return Source(self.redis, self.database, 10, next(NUMBERS))

    async def has_seen(self, page: Page, number: int) -> bool:
        """Wait for the last entry, within reason."""
        last = page.locator(f'[data-id="{number:08x}-0000-4000-8000-{number:012x}"]')
        with suppress(AssertionError):
            await expect(last).to_have_count(1, timeout=PATIENCE)
            return True
        return False


async def _appending(route: Route) -> None:
    await route.fulfill(body=APPENDING, content_type="text/html")


async def smoothness(bench: Bench, name: str, rate: int, seconds: int) -> tuple[object, ...]:
    """Of a stream of entries: late frames, the longest task, elements, when the last was seen."""
    source, clock = bench.source(), asyncio.get_running_loop().time
    async with bench.looking(name) as page:
        await page.evaluate("() => Object.assign(probe, { frames: [], tasks: [0] })")
        numbers = await source.run(rate, seconds)
        ended = clock()
        probe: dict[str, Any] = await page.evaluate("() => probe")
        is_seen = await bench.has_seen(page, numbers[-1])
        behind = f"{'' if is_seen else 'more than '}{clock() - ended:.1f} s"
    frames = probe["frames"]
    late = sum(frame > LATE for frame in frames)
    return (
        f"{len(frames):,}",
        f"{100 * late / len(frames):.1f} %",
        f"{max(probe['tasks']):,.0f} ms",
        f"{probe['elements']:,}",
        behind,
    )


async def size(bench: Bench, name: str, entries: int) -> tuple[object, ...]:
    """MiB on the page's heap after so many entries, and elements."""
    source = bench.source()
    async with bench.looking(name) as page:
        for first in range(0, entries, PORTION):
            await source.put(min(PORTION, entries - first))
        assert await bench.has_seen(page, max(source.sent))
        session = await page.context.new_cdp_session(page)
        await session.send("HeapProfiler.collectGarbage")
        await session.send("Performance.enable")
        metrics = (await session.send("Performance.getMetrics"))["metrics"]
        values = {each["name"]: each["value"] for each in metrics}
    return f"{values['JSHeapUsedSize'] / (1 << 20):,.0f}", f"{values['Nodes']:,.0f}"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="entries a second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--entries", type=int, default=200_000, help="for our memory")
    asked = parser.parse_args()
    with RedisServer() as redis, PostgresServer() as postgres:
        postgres.make_templates()
        url = postgres.url(postgres.make_database())
        env = TOKENS | {"REDIS_URL": redis.url, "DATABASE_URL": url}
        database = await asyncpg.connect(url)
        with Serving(env=env) as bridge:
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=CHROMIUM,
                    chromium_sandbox=False,
                    # What _appending gives has no address, and so may not connect to loopback.
                    args=["--disable-features=LocalNetworkAccessChecks"],
                )
                bench = Bench(browser, redis, database, bridge.url)
                title = f"{asked.rate:,} entries a second for {asked.seconds} s"
                head(title, "", "frames", "late", "longest task", "elements", "last seen after")
                for name in (OURS, APPENDS):
                    show(name, *await smoothness(bench, name, asked.rate, asked.seconds))
                head("Memory", "", "entries", "MiB of heap", "nodes")
                for name, entries in ((APPENDS, FEW), (OURS, FEW), (OURS, asked.entries)):
                    show(name, f"{entries:,}", *await size(bench, name, entries))
        await database.close()


if __name__ == "__main__":
    asyncio.run(main())
