"""Makes demo.svg, the README's picture, from a real run of `lykke demo` on a pseudo-terminal."""

import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.cli_process import LykkeProcess

COLUMNS = 110
TARGET = Path(__file__).with_name("demo.svg")
_STATUS_LINE = re.compile(r"\r\x1b\[2K[^\r\n]*?(?=\r\x1b\[2K|\Z)|\r\x1b\[2K")


def main() -> None:
    with LykkeProcess("demo", "--for", "8s", "--utc", terminal=COLUMNS) as demo:
        screen = demo.finish(60).stdout.decode()
    text = _STATUS_LINE.sub("", screen.replace("\r\n", "\n"))
    console = Console(record=True, width=COLUMNS, file=sys.stderr, force_terminal=True)
    console.print(Text.from_ansi("$ lykke demo\n" + text.strip()))
    svg = console.export_svg(title="lykke demo")
    svg = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", svg, flags=re.DOTALL)  # fetches nothing
    TARGET.write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
