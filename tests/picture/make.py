"""Makes the pictures of the README and the docs from real runs.

demo.svg and stats.svg on a pseudo-terminal, page.png and entry.png in Chromium.
"""

import re
import sys
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright
from rich.console import Console
from rich.text import Text

from tests.browser.viewer import CHROMIUM
from tests.cli_process import LykkeProcess

HERE = Path(__file__).parent
COLUMNS = 90
WINDOW = ViewportSize(width=1120, height=700)
_STATUS_LINE = re.compile(r"\r\x1b\[2K[^\r\n]*?(?=\r\x1b\[2K|\Z)|\r\x1b\[2K")


def main() -> None:
    draw("demo", "lykke demo", screen("demo", "--for", "9s", "--utc"))
    with LykkeProcess("demo", "--keep") as demo:
        exports = (demo.line() + demo.line()).decode()
        env = dict(re.findall(r"export (\w+)=(\S+)", exports))
        words = ("stats", "anna@example.com", "--since", "30d")
        draw("stats", f"lykke {' '.join(words)}", screen(*words, "--utc", env=env))

    with LykkeProcess("demo", "--web") as demo, sync_playwright() as playwright:
        demo.wait_for("the page is at http")
        found = re.search(r"at (http://\S+)", demo.stderr)
        assert found is not None
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        page = browser.new_page(viewport=WINDOW)
        page.goto(found[1])
        show_recovery(page)
        page.screenshot(path=HERE / "page.png")
        page.emulate_media(color_scheme="dark")
        page.keyboard.press("Enter")
        expect(page.locator("#panel")).to_contain_text("other entries")
        page.screenshot(path=HERE / "entry.png")


def show_recovery(page: Page) -> None:
    """Wait for an outage and its end, and select what came before it: it stays in sight."""
    outage = page.locator("[data-rule=outage]")
    expect(outage).to_contain_text("recovered", timeout=90_000)
    page.keyboard.press("k")
    while not page.locator("[aria-selected=true] ~ [data-rule=outage]").count():
        page.keyboard.press("k")


def screen(*words: str, env: dict[str, str] | None = None) -> str:
    """What stays on the terminal, without the status line."""
    with LykkeProcess(*words, env=env, terminal=COLUMNS) as process:
        shown = process.finish(60).stdout.decode()
    return _STATUS_LINE.sub("", shown.replace("\r\n", "\n")).strip()


def draw(name: str, command: str, shown: str) -> None:
    console = Console(record=True, width=COLUMNS, file=sys.stderr, force_terminal=True)
    console.print(Text.from_ansi(f"$ {command}\n{shown}"))
    svg = console.export_svg(title=command)
    svg = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", svg, flags=re.DOTALL)  # fetches nothing
    (HERE / f"{name}.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
