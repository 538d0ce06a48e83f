"""One run of `lykke groups`: the groups once, or again and again."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lykke_cli.application.groups import GroupsProtocol, GroupState
from lykke_cli.application.messages import encode, format_time
from lykke_cli.bootstrap import make_groups
from lykke_cli.cli.output.cells import harmless
from lykke_cli.cli.output.clock import length
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runs.watching import changing, redraw
from lykke_cli.infrastructure.configuration.settings import Settings


@dataclass(frozen=True, kw_only=True)
class GroupListing:
    """`form` is table, ndjson or json."""

    settings: Settings
    terminal: Terminal
    form: str
    channel_type: str
    quiet: bool

    async def once(self) -> None:
        """Print the groups of this moment."""
        async with make_groups(self.settings) as asked:
            found = await self._ask(asked)
        match self.form:
            case "table":
                self.terminal.out.print(self._table(found))
                self.terminal.flush()
            case "json":
                self.terminal.write_json(encode({"groups": [one.to_dict() for one in found]}))
            case _:
                lines = [encode(one.to_dict()) + b"\n" for one in found]
                self.terminal.write_lines(b"".join(lines))

    async def watch(self, interval: float) -> None:
        """Look every `interval` seconds: redraw a table, or print what has changed."""
        async with make_groups(self.settings) as asked:
            ask = partial(self._ask, asked)
            if self.form == "table":
                await redraw(self.terminal, ask, self._table, interval)
                return
            before = dict[str, tuple[object, ...]]()
            async with aclosing(changing(ask, interval, self._say)) as answers:
                async for found in answers:
                    now = {"at": format_time(datetime.now(UTC))}
                    changed = [one for one in found if before.get(one.group) != _standing(one)]
                    lines = [encode(now | one.to_dict()) + b"\n" for one in changed]
                    self.terminal.write_lines(b"".join(lines))
                    before = {one.group: _standing(one) for one in found}

    async def _ask(self, groups: GroupsProtocol) -> Sequence[GroupState]:
        return await groups.groups(self.channel_type)

    def _table(self, found: Sequence[GroupState], trouble: str = "") -> Group:
        notes = [Text(visible(trouble), "dim")] if trouble else []
        if not found:
            return Group(Text(f"no group consumes {self.channel_type}"), *notes)
        if dead := found[0].dead:
            letters = "1 dead letter" if dead == 1 else f"{dead:,} dead letters"
            notes = [Text(f"{letters} in the streams {self.channel_type}:{{..}}:dead"), *notes]
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("GROUP", overflow="ellipsis", min_width=5)
        table.add_column("MEMBER", overflow="ellipsis", min_width=6)
        table.add_column("PENDING", justify="right", no_wrap=True, min_width=7)
        table.add_column("LAG", justify="right", no_wrap=True, min_width=7)
        table.add_column("SEEN", justify="right", no_wrap=True, min_width=8)
        for one in found:
            lag = f"{'>' if one.is_lag_least else ''}{one.lag:,}"
            number = "nobody" if not one.members else str(len(one.members))
            table.add_row(harmless(one.group), number, f"{one.pending:,}", lag, "")
            for member in one.members:
                seen = f"{length(int(member.idle))} ago"
                table.add_row("", harmless(member.consumer), f"{member.pending:,}", "", seen)
        return Group(table, *notes)

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(text)


def _standing(one: GroupState) -> tuple[object, ...]:
    """What counts as a change: time alone does not."""
    members = tuple((member.consumer, member.pending) for member in one.members)
    return members, one.pending, one.lag, one.dead
