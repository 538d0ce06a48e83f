"""One run of `lykke show`: finds the entry, and what is known around it."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from lykke_cli.application.messages import Entry
from lykke_cli.application.show import SeveralFound, find_entry, happened_around
from lykke_cli.bootstrap import make_history
from lykke_cli.cli.output.fields import fields_of
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runs.emails import Emails
from lykke_cli.infrastructure.configuration.settings import Settings

TOLD = ("id", "occurred_at", "activity_type")
MOST_TOLD = 100  # characters of each


@dataclass(frozen=True, kw_only=True)
class Showing:
    """`prefix` as `find_entry` takes it."""

    settings: Settings
    prefix: str
    as_json: bool
    terminal: Terminal
    zone: tzinfo | None

    async def run(self) -> None:
        """Raises SeveralFound after saying which they are, and BadInput when there is none."""
        async with make_history(self.settings) as history:
            try:
                row = await find_entry(history, self.prefix)
            except SeveralFound as several:
                for each in several.entries:
                    fields = fields_of(each)
                    told = [str(fields.get(name))[:MOST_TOLD] for name in TOLD]
                    sys.stderr.write(visible("  ".join(told)) + "\n")
                raise
            if self.as_json:
                self.terminal.write_json(row.to_json())
                return
            others = await happened_around(history, row) if isinstance(row, Entry) else ()

        from lykke_cli.cli.reports.entry_report import draw

        emails = Emails(self.settings)
        await emails.look_up([str(fields_of(each).get("user_id")) for each in (row, *others)])
        draw(
            row,
            others,
            self.terminal,
            zone=self.zone,
            now=datetime.now(UTC),
            emails=emails.known,
        )
        self.terminal.flush()
