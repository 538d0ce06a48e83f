"""One run of `lykke channels`: the active channels once, or again and again."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.channel_types import CHANNEL_TYPES
from lykke_cli.application.channels import changes, describe
from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.application.gateways.channels_protocol import Census, ChannelsProtocol
from lykke_cli.application.messages import encode, format_time
from lykke_cli.bootstrap import make_channels
from lykke_cli.cli.output.cells import harmless
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal
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
            if self.form == "table":
                await self._redraw(channels, interval)
            else:
                await self._print_changes(channels, interval)

    async def _redraw(self, channels: ChannelsProtocol, interval: float) -> None:
        from rich.live import Live

        census, trouble = await self._ask(channels), ""
        with Live(console=self.terminal.out, auto_refresh=False) as live:
            backoff = Backoff()
            while True:
                self.terminal.out.width = self.terminal.width  # it may have been resized
                live.update(self._table(census, trouble), refresh=True)
                await asyncio.sleep(backoff.next() if trouble else interval)
                try:
                    census, trouble = await self._ask(channels), ""
                    backoff.reset()
                except ServerUnavailable as error:
                    trouble = f"{error.problem.rstrip('.')}; trying again"

    async def _print_changes(self, channels: ChannelsProtocol, interval: float) -> None:
        before, after = _NOBODY, await self._ask(channels)
        backoff, is_lost = Backoff(), False
        while True:
            now = {"at": format_time(datetime.now(UTC))}
            self._write([now | change.to_dict() for change in changes(before, after)])
            before = after
            await asyncio.sleep(backoff.next() if is_lost else interval)
            try:
                after = await self._ask(channels)
                if is_lost:
                    self._say("connected again")
                is_lost = False
                backoff.reset()
            except ServerUnavailable as error:
                if not is_lost:
                    self._say(f"{error.problem.rstrip('.')}; trying again")
                is_lost = True

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
            sys.stderr.write(f"lykke: {visible(text)}\n")
            sys.stderr.flush()


def _busiest_first(census: Census) -> list[tuple[str, int]]:
    return sorted(census.subscribers.items(), key=lambda each: (-each[1], each[0]))


def _about_patterns(census: Census) -> str:
    if census.patterns == 1:
        return "1 subscription to a pattern may see channels too"
    return f"{census.patterns:,} subscriptions to patterns may see channels too"
