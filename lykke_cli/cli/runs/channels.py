"""One run of `lykke channels`: the active channels once, or again and again."""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lykke_cli.application.channel_types import CHANNEL_TYPES
from lykke_cli.application.channels import changes, describe
from lykke_cli.application.gateways.channels_protocol import Census, ChannelsProtocol
from lykke_cli.application.messages import encode, format_time
from lykke_cli.bootstrap import make_channels
from lykke_cli.cli.output.cells import harmless
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runs.watching import changing, redraw
from lykke_cli.infrastructure.configuration.settings import Settings

_NOBODY = Census({}, 0)
_COUNT = len("SUBSCRIBERS")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """`form` is table, ndjson or json; `channel` a type, `pattern` the server's glob."""

    settings: Settings
    terminal: Terminal
    form: str
    channel: str | None
    pattern: str | None
    quiet: bool

    @property
    def _types(self) -> Sequence[str]:
        return CHANNEL_TYPES if self.channel is None else (self.channel,)

    async def once(self) -> None:
        """Print the channels of this moment."""
        async with make_channels(self.settings) as channels:
            census = await self._ask(channels)
        rows = [describe(*each) for each in _busiest_first(census)]
        match self.form:
            case "table":
                self.terminal.out.print(self._table(census))
                self.terminal.flush()
            case "json":
                told = {"channels": rows, "pattern_subscriptions": census.patterns}
                self.terminal.write_json(encode(told))
            case _:
                self._write(rows)
                if census.patterns:
                    self._say(_about_patterns(census))

    async def watch(self, interval: float) -> None:
        """Look every `interval` seconds: redraw a table, or print what has changed."""
        async with make_channels(self.settings) as channels:
            ask = partial(self._ask, channels)
            if self.form == "table":
                await redraw(self.terminal, ask, self._table, interval)
                return
            before = _NOBODY
            async with aclosing(changing(ask, interval, self._say)) as answers:
                async for after in answers:
                    now = {"at": format_time(datetime.now(UTC))}
                    self._write([now | change.to_dict() for change in changes(before, after)])
                    before = after

    async def _ask(self, channels: ChannelsProtocol) -> Census:
        return await channels.census(self._types, self.pattern)

    def _table(self, census: Census, trouble: str = "") -> Group:
        width = self.terminal.width
        notes = [_about_patterns(census)] if census.patterns else []
        notes += [visible(trouble)] if trouble else []
        lines = [Text(note, "dim") for note in notes]
        if not census.subscribers:
            return Group(Text("no channel has a subscriber"), *lines)
        longest = max(cell_len(visible(name)) for name in census.subscribers)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        room = max(len("CHANNEL"), min(longest, width - _COUNT - 4))
        table.add_column("CHANNEL", width=room, no_wrap=True)
        table.add_column("SUBSCRIBERS", justify="right", width=_COUNT, no_wrap=True)
        for name, subscribers in _busiest_first(census):
            table.add_row(harmless(name), f"{subscribers:,}")
        return Group(table, *lines)

    def _write(self, rows: Iterable[dict[str, Any]]) -> None:
        self.terminal.write_lines(b"".join(encode(row) + b"\n" for row in rows))

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(text)


def _busiest_first(census: Census) -> list[tuple[str, int]]:
    return sorted(census.subscribers.items(), key=lambda each: (-each[1], each[0]))


def _about_patterns(census: Census) -> str:
    if census.patterns == 1:
        return "1 subscription to a pattern may see channels too"
    return f"{census.patterns:,} subscriptions to patterns may see channels too"
