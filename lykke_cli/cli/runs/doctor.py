"""One run of `lykke doctor`: the checks that fit the settings, each shown as it ends."""

import textwrap
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from lykke_cli.application.doctor import Check, Finding, Verdict, examine
from lykke_cli.application.errors import ExpectationNotMet
from lykke_cli.application.messages import encode
from lykke_cli.bootstrap import make_checks
from lykke_cli.cli.output.palette import DIM, Color, painted
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal
from lykke_cli.cli.runtime import without_log
from lykke_cli.infrastructure.configuration.settings import Settings

_SIGNS = {
    Verdict.OK: ("✓", Color.GREEN),
    Verdict.WARNING: ("!", Color.YELLOW),
    Verdict.FAILED: ("✗", Color.RED),
    Verdict.SKIPPED: ("-", None),
}
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
    as_json: bool
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
                if not self.as_json:
                    self._show(check, finding)
        count = Counter(finding.status for _, finding in found)
        if self.as_json:
            self._write_json(found, count)
        else:
            warnings = f"warning{'' if count[Verdict.WARNING] == 1 else 's'}"
            words = {Verdict.WARNING: warnings}
            self._print(", ".join(f"{count[s]} {words.get(s, s)}" for s in Verdict))
        if count[Verdict.FAILED]:
            raise ExpectationNotMet(f"{count[Verdict.FAILED]} of {len(found)} checks failed.")

    def _show(self, check: Check, finding: Finding) -> None:
        sign, color = _SIGNS[finding.status]
        if self.terminal.stdout_in_color:
            sign = painted(sign, DIM if color is None else color.code)
        lines = self._wrapped(finding.detail)
        if finding.remedy is not None:
            lines += self._wrapped(f"→ {finding.remedy}")
        self._print(f"{sign} {check.id:<{_ID_WIDTH}} {lines[0]}")
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

    def _write_json(self, found: list[tuple[Check, Finding]], count: Counter[Verdict]) -> None:
        report: dict[str, Any] = {
            "ok": not count[Verdict.FAILED],
            "checks": [
                {
                    "id": check.id,
                    "status": finding.status.value,
                    "detail": finding.detail,
                    "remedy": finding.remedy,
                }
                for check, finding in found
            ],
        }
        self.terminal.write_json(encode(report))
