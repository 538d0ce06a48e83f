"""Whatever is in an entry, the page shows it as text, and does nothing."""

import json
from itertools import islice

from playwright.async_api import expect

from tests.browser.recording import Recorder
from tests.browser.viewer import Viewer, in_browser
from tests.hostile import CORPUS, OBEYED
from tests.serving import TOKEN, Serving

pytestmark = in_browser
SCRIPTS = [
    "<script>window.harmed = 1</script>",
    '<img src=x onerror="window.harmed = 1">',
    "\"'><svg onload=window.harmed=1>",
    "<iframe srcdoc='<script>parent.harmed = 1</script>'></iframe>",
    "<a href=javascript:window.harmed=1>x</a>",
    "</span></div><style>* { display: none }</style>",
    "<base href=http://elsewhere.example/>",
    "{{constructor.constructor('window.harmed = 1')()}}",
    "${window.harmed = 1}",
    "__proto__",
    "constructor",
]
AT_ONCE = 20  # hostile texts in one entry


async def test_hostile_entries_stay_text(
    bridge: Serving, recorder: Recorder, viewer: Viewer
) -> None:
    await viewer.open(bridge.url, token=TOKEN)
    await viewer.becomes("exact")
    shown = {}
    for text in SCRIPTS:
        [id] = await recorder.record(
            activity_type=text, entity_type=text, meta={text: text, "__proto__": {"x": text}}
        )
        shown[id] = text
    rest = iter([text for text in CORPUS if "\0" not in text])
    while texts := list(islice(rest, AT_ONCE)):
        await recorder.record(activity_type="".join(texts), meta=dict(enumerated(texts)))
    await viewer.sees(recorder.ids)
    for id, text in shown.items():
        await expect(viewer.row(id).locator(".activity")).to_have_text(text)
    panel = viewer.page.locator("#panel")
    for id in recorder.ids:
        await viewer.row(id).click()
        await expect(panel).to_contain_text(id)
    strangers = viewer.page.locator("body :is(script, img, svg, iframe, style, base, a)")
    await expect(strangers).to_have_count(0)
    assert await viewer.page.evaluate("() => window.harmed") is None
    assert await viewer.page.evaluate("() => ({}).x") is None
    text = await viewer.page.locator("body").inner_text()
    assert not {*text} & (OBEYED - {"\n", "\t"})


def enumerated(texts: list[str]) -> list[tuple[str, str]]:
    return [(f"{number} {text}", text) for number, text in enumerate(texts)]


async def test_what_comes_on_the_channel_is_no_less_harmless(
    bridge: Serving, recorder: Recorder, viewer: Viewer
) -> None:
    await viewer.open(bridge.url, token=TOKEN, view=f"user={recorder.user}")
    await viewer.becomes("exact")
    await viewer.page.keyboard.press("s")
    dialog = viewer.page.get_by_role("dialog")
    for text in SCRIPTS[:3]:
        await dialog.get_by_label("Text").fill(text)
        await dialog.get_by_role("button", name="Send").click()
        row = viewer.page.locator("[role=row]", has_text="client_broadcast").last
        await expect(row).to_contain_text(json.dumps(text))
    assert await viewer.page.evaluate("() => window.harmed") is None
