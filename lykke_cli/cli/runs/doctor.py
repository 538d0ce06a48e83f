"""One run of `lykke doctor`: the checks that fit the settings, each shown as it ends."""

import textwrap
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import UUID

from lykke_cli.application.doctor import Check, Finding, Verdict, examine
from lykke_cli.application.errors import ExpectationNotMet
from lykke_cli.bootstrap import make_checks
from lykke_cli.cli.output.palette import DIM, Color, painted
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.reports.doctor_report import Found
from lykke_cli.cli.runtime import without_log
from lykke_cli.infrastructure.configuration.settings import Settings

_SIGNS = {
    Verdict.OK: ("✓", Color.GREEN),
    Verdict.WARNING: ("!", Color.YELLOW),
    Verdict.FAILED: ("✗", Color.RED),
    Verdict.SKIPPED: ("-", None),
}
_SHOWN_AT_ONCE = (Verdict.OK, Verdict.WARNING)  # the others would be scrolled out of sight
_ID_WIDTH = 27
_NARROWEST = 30  # columns for a detail; a terminal with less breaks the lines itself


@dataclass(frozen=True, kw_only=True)
class Examination:
    """`timeout` is in seconds, for each check; with `write` an entry is recorded, for `user_id`."""

    settings: Settings
    channel_type: str
    write: bool
    user_id: UUID | None
    timeout: float
    write_report: Callable[[Found, Terminal], None] | None
    """Called at the end; None to show each check."""
    terminal: Terminal

    async def run(self) -> None:
        """Raises ExpectationNotMet when a check failed."""
        found: list[tuple[Check, Finding]] = []
        async with AsyncExitStack() as stack:
            stack.enter_context(without_log())  # which would only repeat what is found
            checks = await make_checks(
                self.settings,
                self.channel_type,
                stack,
                write=self.write,
                timeout=self.timeout,
                user_id=self.user_id,
            )
            async for check, finding in examine(checks, timeout=self.timeout):
                found.append((check, finding))
                if self.write_report is None and finding.status in _SHOWN_AT_ONCE:
                    self._show(check.id, finding)
        count = Counter(finding.status for _, finding in found)
        if self.write_report is None:
            self._show_rest(found)
            warnings = f"warning{'' if count[Verdict.WARNING] == 1 else 's'}"
            words = {Verdict.WARNING: warnings}
            self._print(", ".join(f"{count[s]} {words.get(s, s)}" for s in Verdict))
        else:
            self.write_report(found, self.terminal)
        if count[Verdict.FAILED]:
            raise ExpectationNotMet(f"{count[Verdict.FAILED]} of {len(found)} checks failed.")

    def _show_rest(self, found: Found) -> None:
        """What was skipped, in one line where the reason is a failure; and failures last."""
        bad = {check.id for check, finding in found if finding.status not in _SHOWN_AT_ONCE}
        skipped = [each for each in found if each[1].status is Verdict.SKIPPED]
        folded = [check.id for check, _ in skipped if bad.intersection(check.needs)]
        if len(folded) > 1:
            reason = f"for want of what failed: {', '.join(folded)}"
            self._show(f"{len(folded)} checks", Finding(Verdict.SKIPPED, reason))
            skipped = [each for each in skipped if each[0].id not in folded]
        for check, finding in skipped:
            self._show(check.id, finding)
        for check, finding in found:
            if finding.status is Verdict.FAILED:
                self._show(check.id, finding)

    def _show(self, id: str, finding: Finding) -> None:
        sign, color = _SIGNS[finding.status]
        if self.terminal.stdout_in_color:
            sign = painted(sign, DIM if color is None else color.code)
        lines = self._wrapped(finding.detail)
        if finding.remedy is not None:
            lines += self._wrapped(f"→ {finding.remedy}")
        self._print(f"{sign} {id:<{_ID_WIDTH}} {lines[0]}")
        for line in lines[1:]:
            self._print(f"{'':{_ID_WIDTH + 3}}{line}")

    def _wrapped(self, text: str) -> list[str]:
        """On a terminal, lines that fit beside the ids; in a pipe one, which can be searched."""
        text = visible(text)
        if not self.terminal.stdout_is_tty:
            return [text]
        width = max(self.terminal.width - _ID_WIDTH - 3, _NARROWEST)
        return textwrap.wrap(text, width, break_on_hyphens=False) or [""]

    def _print(self, line: str) -> None:
        self.terminal.write(line.encode() + b"\n")
        self.terminal.flush()
