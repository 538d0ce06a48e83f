"""One run of `lykke relay`."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from secrets import token_hex

from lykke_cli.application.ending import end
from lykke_cli.application.rebroadcast import Rebroadcast
from lykke_cli.application.relay_driver import (
    Active,
    Back,
    RelayDriver,
    RelayFigures,
    RelayStatus,
    StreamsAway,
    Waiting,
)
from lykke_cli.application.statuses import HistoryAway, Notice
from lykke_cli.bootstrap import make_broadcasts, make_histories, make_stream_log
from lykke_cli.cli.output.clock import length
from lykke_cli.cli.output.countdown import Countdown
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.infrastructure.configuration.settings import Settings

REDRAW = 0.5  # seconds
CHUNK_ROWS = 2_000  # of the table that are read together


@dataclass(frozen=True, kw_only=True)
class Relaying:
    """What is relayed, and how it is told of."""

    settings: Settings
    terminal: Terminal
    since: datetime | None
    with_broadcasts: bool
    partitions: int | None
    keep: int
    interval: float
    """In seconds."""
    metrics: tuple[str, int] | None
    """Host and port."""
    quiet: bool

    async def run(self) -> None:
        """Relay until it is interrupted; raises ServerUnavailable where it cannot begin."""
        foot = Countdown(self.terminal, quiet=self.quiet)
        async with AsyncExitStack() as stack:
            log = make_stream_log(self.settings, partitions=self.partitions, keep=self.keep)
            await stack.enter_async_context(log)
            history, verifier = make_histories(self.settings, 2, chunk_rows=CHUNK_ROWS, prompt=True)
            for each in (history, verifier):
                await stack.enter_async_context(each)
            await history.identify()  # a mistake is told now; what goes away later is waited for
            broadcasts: Rebroadcast | None = None
            if self.with_broadcasts:
                gateway = make_broadcasts(self.settings)
                stack.push_async_callback(gateway.close)
                broadcasts = Rebroadcast(gateway)
            driver = RelayDriver(
                log,
                (history, verifier),
                token_hex(4),
                interval=self.interval,
                since=self.since,
                on_status=lambda status: self._say(foot, _words(status, self.since)),
                broadcasts=broadcasts,
            )
            if self.metrics is not None:
                from lykke_cli.web.metrics_server import serve_metrics

                figures = partial(exposition, driver.figures, broadcasts)
                address = await stack.enter_async_context(serve_metrics(*self.metrics, figures))
                self._say(foot, f"figures are at {address}/metrics")
            if foot.is_seen:
                drawing = asyncio.create_task(_draw(foot, driver.figures))
                stack.push_async_callback(end, {drawing})
                stack.callback(foot.clear)
            await driver.run()

    def _say(self, foot: Countdown, text: str) -> None:
        if not self.quiet:
            foot.clear()
            say(text)


def _words(status: RelayStatus, since: datetime | None) -> str:
    match status:
        case Waiting():
            return "another relay is active: standing by"
        case Active(partitions, without):
            start = "the start of the table" if since is None else since.isoformat()
            told = "" if not without else f"; {without} of them are new, and begin with {start}"
            return f"relaying into {partitions} streams{told}; Ctrl-C ends it"
        case StreamsAway(reason) | HistoryAway(reason):
            return f"{reason} Trying again."
        case Back():
            return "it is there again; nothing is left out"
        case Notice(text):
            return text


def exposition(figures: RelayFigures, broadcasts: Rebroadcast | None) -> str:
    """The figures in Prometheus' text format."""
    lag = figures.lag()
    samples = [
        (
            "lykke_relay_active",
            "gauge",
            "1 while it writes, 0 while it stands by.",
            int(figures.is_active),
        ),
        (
            "lykke_relay_lag_seconds",
            "gauge",
            "For how long something may be missing in the streams.",
            "NaN" if lag is None else f"{lag:.3f}",
        ),
        (
            "lykke_relay_entries_total",
            "counter",
            "Entries written to the streams.",
            figures.written,
        ),
    ]
    if broadcasts is not None:
        samples.append(
            (
                "lykke_relay_published_total",
                "counter",
                "Entries published because nobody had.",
                broadcasts.published,
            )
        )
    return "".join(
        f"# HELP {name} {about}\n# TYPE {name} {kind}\n{name} {value}\n"
        for name, kind, about, value in samples
    )


async def _draw(foot: Countdown, figures: RelayFigures) -> None:
    while True:
        lag = figures.lag()
        behind = "" if lag is None else f" · {length(max(0.0, lag))} behind"
        state = "● relaying" if figures.is_active else "○ standing by"
        entries = "1 entry" if figures.written == 1 else f"{figures.written:,} entries"
        foot.show(f"{state} · {entries}{behind}")
        await asyncio.sleep(REDRAW)
