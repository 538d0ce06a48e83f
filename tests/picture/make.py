"""Makes the README's pictures from real runs on a pseudo-terminal: demo.svg and stats.svg."""

import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.cli_process import LykkeProcess

COLUMNS = 90
_STATUS_LINE = re.compile(r"\r\x1b\[2K[^\r\n]*?(?=\r\x1b\[2K|\Z)|\r\x1b\[2K")


def main() -> None:
    draw("demo", "lykke demo", screen("demo", "--for", "9s", "--utc"))
    with LykkeProcess("demo", "--keep") as demo:
        exports = (demo.line() + demo.line()).decode()
        env = dict(re.findall(r"export (\w+)=(\S+)", exports))
        words = ("stats", "anna@example.com", "--since", "30d")
        draw("stats", f"lykke {' '.join(words)}", screen(*words, "--utc", env=env))


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
    Path(__file__).with_name(f"{name}.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
